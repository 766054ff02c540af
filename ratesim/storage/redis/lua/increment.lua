-- A plain counter that lives `window` seconds from its first hit. KEYS: the counter's hash. ARGV: amount, window, now or
-- `server`, least time to live, seconds, and those by which its end may be too late before a wrong clock has written it.
local now
if ARGV[3] == 'server' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1e6
else
  now = ARGV[3] - 0
end
local expires_at = redis.call('HGET', KEYS[1], 'expires_at')
local left = expires_at and expires_at - now or 0
if expires_at and left <= 0 then redis.call('DEL', KEYS[1]) end
if left <= 0 or left > ARGV[2] + ARGV[5] then
  redis.call('HSET', KEYS[1], 'expires_at', string.format('%.17g', now + ARGV[2]))
  redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(ARGV[2] + 1, ARGV[4] - 0) * 1000))
end
return redis.call('HINCRBY', KEYS[1], 'count', ARGV[1])
