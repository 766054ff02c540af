-- Admit a cost under all limits and charge them, or deny and change nothing.
-- KEYS: the identifier's hash. ARGV: now, cost, consume (1|0), least time to live, expiry margin, then for each limit its
-- field prefix, algorithm, number of parameters, parameters. Answers {allowed, index of the deciding limit from 0,
-- remaining, retry_after, reset_after}.
local key, now, cost, consume = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local least, margin = tonumber(ARGV[4]), tonumber(ARGV[5])

local work, allowed, position = {}, true, 6
while position <= #ARGV do
  local w = {prefix = ARGV[position], algorithm = ARGV[position + 1], p = {}}
  local count = tonumber(ARGV[position + 2])
  for i = 1, count do w.p[i] = tonumber(ARGV[position + 2 + i]) end
  position = position + 3 + count
  w.rule = rules[w.algorithm]
  w.s = load(key, w.prefix, w.algorithm, w.p, now)
  w.at = now
  if w.s then
    w.at = math.max(now, w.s[1])
    w.rule.refresh(w.s, w.p, w.at)
  else
    w.s = {}
    w.born = now
    w.rule.start(w.s, w.p, now)
  end
  w.left = w.rule.available(w.s, w.p, w.at)
  if w.left < cost then allowed = false end
  work[#work + 1] = w
end

local function up_to_micro(seconds)
  if seconds < 1e12 then return math.ceil(seconds * 1e6) / 1e6 end
  return seconds
end

local decider
for i, w in ipairs(work) do
  w.retry_after = 0
  if allowed and consume then
    w.rule.charge(w.s, w.p, cost, w.at)
    w.left = w.rule.available(w.s, w.p, w.at)
  elseif w.left < cost then
    w.retry_after = up_to_micro(w.rule.retry_after(w.s, w.p, cost, w.at) + (w.at - now))
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
