-- Put a state in place of what is there. KEYS: the identifier's hash. ARGV: field prefix, milliseconds to live, clock
-- (client|server), then names and values. By the server's clock the value of expires_at is the seconds to live.
if ARGV[3] == 'server' then
  for i = 4, #ARGV, 2 do
    if ARGV[i] == ARGV[1] .. 'expires_at' then
      ARGV[i + 1] = string.format('%.17g', time_of('server') + tonumber(ARGV[i + 1]))
    end
  end
end
forget(KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
local milliseconds = tonumber(ARGV[2])
if redis.call('PTTL', KEYS[1]) < milliseconds then redis.call('PEXPIRE', KEYS[1], milliseconds) end
return 1
