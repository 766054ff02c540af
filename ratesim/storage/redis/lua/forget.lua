-- Drop the fields of one limit; those of a limit without a name are the ones without a dot.
function forget(key, prefix)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local own
    if prefix == '' then own = not string.find(field, '.', 1, true) else own = string.sub(field, 1, #prefix) == prefix end
    if own then redis.call('HDEL', key, field) end
  end
end
