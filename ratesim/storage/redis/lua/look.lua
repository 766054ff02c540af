-- The server's time and some fields of a hash. KEYS: the identifier's hash. ARGV: names of fields. Answers seconds,
-- microseconds, values.
local time = redis.call('TIME')
return {time[1], time[2], redis.call('HMGET', KEYS[1], unpack(ARGV))}
