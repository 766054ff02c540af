-- Admit a cost under all limits and charge them, or deny and change nothing.
-- KEYS: the identifier's hash. ARGV: now, cost, consume (1|0), least time to live, expiry margin, then for each limit its
-- field prefix, algorithm, number of parameters, parameters. Answers {allowed, index of the deciding limit from 0,
-- remaining, retry_after, reset_after}.
local key, now, cost, consume = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local least, margin = tonumber(ARGV[4]), tonumber(ARGV[5])

local work, allowed, position = {}, true, 6
while position <= #ARGV do
  local w
  w, position = opened(key, position, now)
  w.left = w.rule.available(w.s, w.p, w.at)
  if w.left < cost then allowed = false end
  work[#work + 1] = w
end

-- Rounded up to a microsecond and tried on the stored state: `long_enough` in ratesim/storage/memory.py.
local function long_enough(w, seconds)
  if not w.stored or seconds >= 1e12 then return seconds end
  local micros = math.max(math.ceil(seconds * 1e6), 1)
  local step = 1
  while micros < 1e18 do
    local s = {}
    for i = 1, #w.stored do s[i] = w.stored[i] end
    local at = math.max(now + micros / 1e6, s[1])
    w.rule.refresh(s, w.p, at)
    if w.rule.available(s, w.p, at) >= cost then return micros / 1e6 end
    micros = micros + step
    step = step * 2
  end
  return math.huge
end

local decider
for i, w in ipairs(work) do
  w.retry_after = 0
  if allowed and consume then
    w.rule.charge(w.s, w.p, cost, w.at)
    w.left = w.rule.available(w.s, w.p, w.at)
  elseif w.left < cost then
    w.retry_after = long_enough(w, w.rule.retry_after(w.s, w.p, cost, w.at) + (w.at - now))
  end
  w.reset_after = w.rule.fresh_after(w.s, w.p, w.at) + (w.at - now)
  if allowed and consume then
    store(key, w.prefix, w.algorithm, w.s, w.at, now + w.reset_after + margin, w.born)
    redis.call('HINCRBY', key, w.prefix .. 'request_count', 1)
    keep(key, w.reset_after + margin, least)
  end
  w.remaining = math.max(w.left, 0)
  w.index = i
  -- who decided: denied for longest, or with least left
  if not decider or w.retry_after > decider.retry_after
      or (w.retry_after == decider.retry_after and w.retry_after == 0 and w.remaining < decider.remaining) then
    decider = w
  end
end

return {allowed and 1 or 0, decider.index - 1, number(decider.remaining), number(decider.retry_after), number(decider.reset_after)}
