-- Call a command with a key and any number of arguments: Lua hands over some thousand at a time.
local function in_parts(command, key, arguments)
  for i = 1, #arguments, 1000 do redis.call(command, key, unpack(arguments, i, math.min(i + 999, #arguments))) end
end
