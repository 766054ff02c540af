-- Decide one limit. Its rule is written out in place of the lines in angle brackets: ratesim/storage/redis/single_limit.py.
-- A state that is too far ahead is brought back to now, which is kept also when the cost is denied.
-- KEYS: the identifier's hash. ARGV: now, cost, seconds that the state may be ahead, parameters, field prefix. Answers 1 or 0 for
-- admitted or denied, seconds and microseconds of the server's clock where that decides, and the state as it was found, if one was.
{names}
local found = redis.call('HMGET', KEYS[1], {algorithm}, {expires_at}, {request_count}, {fields})
{clock}
local cost, skew, {parameters} = ARGV[2] - 0, ARGV[3] - 0, {arguments}
{twin}
local at, {state} = now
local stored = found[1] == '{name}' and not (found[2] - 0 <= now)
if stored then
  {load}
end
local verdict, rewound, left, fresh = '1', false
if stored then
  if s0 - now > skew then
    <rewind None now=now>
    rewound = true
  end
  if s0 > at then at = s0 end
  <refresh None now=at>
else
  <start None now=now>
end
<available left now=at>
if left < cost then
  verdict = '0'
  if not rewound then return {answer} end
  {load}
  <rewind None now=now>
  <reset_after fresh now=now>
else
  <charge None now=at>
  <reset_after fresh now=at>
  fresh = fresh + (at - now)
end

local seconds, kept = fresh + {margin} + skew, nil
{least}
if seconds > 1e10 then seconds = 1e10 end
if stored then
  redis.call('HSET', KEYS[1], {request_count}, (found[3] or 0) + verdict, {written})
  kept = redis.call('PTTL', KEYS[1])
  if kept < seconds * 1000 then seconds = seconds * 1.25 end -- a busy key is lengthened in steps
else
  kept = redis.call('PTTL', KEYS[1])
  if kept ~= -2 then
    local forget
    {forget}
    forget(KEYS[1], {prefix})
  end
  redis.call('HSET', KEYS[1], {request_count}, 1, {written}, {algorithm}, '{name}', {created_at}, {now})
end
if kept < seconds * 1000 then redis.call('PEXPIRE', KEYS[1], math.ceil(seconds * 1000)) end
return {answer}
