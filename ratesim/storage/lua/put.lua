-- Put a state in place of what is there. KEYS: the identifier's hash. ARGV: field prefix, milliseconds to live, then names
-- and values.
forget(KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
local milliseconds = tonumber(ARGV[2])
if redis.call('PTTL', KEYS[1]) < milliseconds then redis.call('PEXPIRE', KEYS[1], milliseconds) end
return 1
