-- Bring a packed state into the form that scripts decide on, if it is still as it was read.
-- KEYS: the identifier's hash. ARGV: the number of fields that go, names and values of these as they were read, then names and
-- values of the fields that come.
local count = tonumber(ARGV[1])
local gone, come = {}, {}
for i = 2, 2 * count, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
  gone[#gone + 1] = ARGV[i]
end
for i = 2 * count + 2, #ARGV do come[#come + 1] = ARGV[i] end
in_parts('HDEL', KEYS[1], gone)
in_parts('HSET', KEYS[1], come)
return 1
