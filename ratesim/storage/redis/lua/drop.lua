-- Delete a hash that is still as it was read: whatever has been charged since stays.
if table.concat(redis.call('HGETALL', KEYS[1])) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
