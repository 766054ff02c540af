-- Drop the fields of one limit; those of a limit without a name are the ones without a dot.
function forget(key, prefix)
  local own = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local is_own
    if prefix == '' then is_own = not string.find(field, '.', 1, true) else is_own = string.sub(field, 1, #prefix) == prefix end
    if is_own then own[#own + 1] = field end
  end
  -- Lua hands over some thousand arguments at a time.
  for i = 1, #own, 1000 do redis.call('HDEL', key, unpack(own, i, math.min(i + 999, #own))) end
end
