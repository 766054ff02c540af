-- A plain counter that lives `window` seconds from its first hit. KEYS: the counter's hash. ARGV: amount, window, now or
-- `server`, least time to live, seconds, and those by which its end may be too late before a wrong clock has written it.
local now = time_of(ARGV[3])
local expires_at = tonumber(redis.call('HGET', KEYS[1], 'expires_at') or '-inf')
if expires_at <= now then redis.call('DEL', KEYS[1]) end
if expires_at <= now or expires_at - now > tonumber(ARGV[2]) + tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'expires_at', string.format('%.17g', now + tonumber(ARGV[2])))
  redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(tonumber(ARGV[2]) + 1, tonumber(ARGV[4])) * 1000))
end
return redis.call('HINCRBY', KEYS[1], 'count', ARGV[1])
