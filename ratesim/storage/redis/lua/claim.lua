-- Claims the name of a node for some milliseconds, or extends the holder's own claim; answers who holds the name, and for how
-- many milliseconds more. KEYS: the claim, a string. ARGV: holder, milliseconds; 0 gives the name back.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {holder, redis.call('PTTL', KEYS[1])}
end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return {ARGV[1], tonumber(ARGV[2])}
