-- Admit a cost under all limits and charge them, or deny and change nothing.
-- A state that is too far ahead is brought back to now, which is kept also when the cost is denied.
-- KEYS: the identifier's hash. ARGV: now or `server`, cost, consume (1|0), least time to live, expiry margin, then for each limit
-- its field prefix, algorithm, seconds that its state may be ahead, number of parameters, parameters. Answers {allowed, index of
-- the deciding limit from 0, remaining, retry_after, reset_after, states brought back}.
local key, now, cost, consume = KEYS[1], time_of(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local least, margin = tonumber(ARGV[4]), tonumber(ARGV[5])

local work, allowed, position = {}, true, 6
while position <= #ARGV do
  local w
  w, position = opened(key, position, now)
  w.left = w.rule.available(w.s, w.p, w.at)
  if w.left < cost then allowed = false end
  work[#work + 1] = w
end
if packed then return packed end

-- How long to wait: ratesim/storage/retry_after.py.
local FOREVER = 1e12

-- The state of w at a time that may be later, as it would be if nobody came; and that time, or the state's own.
local function trial(w, time)
  if not w.stored then
    local s = {}
    w.rule.start(s, w.p, time)
    return s, time
  end
  local s = copy(w.stored)
  local at = math.max(time, s[1])
  w.rule.refresh(s, w.p, at)
  return s, at
end

local function long_enough(w, seconds)
  if not w.stored or seconds >= FOREVER then return seconds end
  local micros = math.max(math.ceil(seconds * 1e6), 1)
  local step = 1
  while micros < FOREVER * 1e6 do
    local s, at = trial(w, now + micros / 1e6)
    if w.rule.available(s, w.p, at) >= cost then return micros / 1e6 end
    seconds = w.rule.retry_after(s, w.p, cost, at) + (at - now)
    if seconds >= FOREVER then return seconds end
    micros = math.max(micros + step, math.ceil(seconds * 1e6))
    step = step * 2
  end
  return math.huge
end

local function until_all_admit()
  local longest, last, settled = 0, 1, -1
  while settled < longest and longest < FOREVER do
    settled = longest
    for place, w in ipairs(work) do
      local s, at = trial(w, now + longest)
      if w.rule.available(s, w.p, at) < cost then
        longest = long_enough(w, w.rule.retry_after(s, w.p, cost, at) + (at - now))
        last = place
        if longest >= FOREVER then break end
      end
    end
  end
  return longest, last
end

local decider
local rewound = 0
for i, w in ipairs(work) do
  if allowed and consume then
    w.rule.charge(w.s, w.p, cost, w.at)
    w.left = w.rule.available(w.s, w.p, w.at)
  end
  w.reset_after = w.rule.reset_after(w.s, w.p, w.at) + (w.at - now)
  if allowed and consume then
    store(key, w.prefix, w.algorithm, w.s, w.at, now + w.reset_after + margin, w.born, 1)
    keep(key, w.reset_after + margin + w.skew, least)
  elseif w.rewound and consume then
    local fresh = w.rule.reset_after(w.stored, w.p, now)
    store(key, w.prefix, w.algorithm, w.stored, now, now + fresh + margin, nil, 0)
    keep(key, fresh + margin + w.skew, least)
  end
  if w.rewound and consume then rewound = rewound + 1 end
  w.remaining = math.max(w.left, 0)
  w.index = i
  if not decider or w.remaining < decider.remaining then decider = w end
end
local retry_after = 0
if not allowed then
  local last
  retry_after, last = until_all_admit()
  decider = work[last]
end

return {
  allowed and 1 or 0, decider.index - 1, number(decider.remaining), number(retry_after), number(decider.reset_after), rewound
}
