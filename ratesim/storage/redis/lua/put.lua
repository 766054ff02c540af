-- Put a state in place of what is there. KEYS: the identifier's hash. ARGV: field prefix, milliseconds to live, clock
-- (client|server), then names and values. By the server's clock the value of expires_at is the seconds to live.
local values = {}
for i = 4, #ARGV do values[i - 3] = ARGV[i] end
if ARGV[3] == 'server' then
  for i = 1, #values, 2 do
    if values[i] == ARGV[1] .. 'expires_at' then
      values[i + 1] = string.format('%.17g', time_of('server') + tonumber(values[i + 1]))
    elseif values[i] == ARGV[1] .. 'log_head' then
      local seconds = struct.unpack('>d', values[i + 1])
      values[i + 1] = struct.pack('>d', time_of('server') + seconds) .. string.sub(values[i + 1], 9)
    end
  end
end
forget(KEYS[1], ARGV[1])
in_parts('HSET', KEYS[1], values)
local milliseconds = tonumber(ARGV[2])
if redis.call('PTTL', KEYS[1]) < milliseconds then redis.call('PEXPIRE', KEYS[1], milliseconds) end
return 1
