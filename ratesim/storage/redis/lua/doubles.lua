-- The library struct of Redis and Valkey, or as much of it as the other scripts use where the server (fakeredis) has none:
-- big-endian doubles.
local struct = struct or (function()
  local own = {}

  local function bytes_of(x)
    local sign, exponent, fraction = 0, 0, 0
    if x < 0 or 1 / x < 0 then sign, x = 128, -x end
    if x ~= x then
      exponent, fraction = 2047, 2 ^ 51
    elseif x == math.huge then
      exponent = 2047
    elseif x > 0 then
      local mantissa
      mantissa, exponent = math.frexp(x)
      exponent = exponent + 1022
      if exponent > 0 then
        fraction = (mantissa * 2 - 1) * 2 ^ 52
      else
        fraction, exponent = math.ldexp(mantissa, 52 + exponent), 0
      end
    end
    local high, low = math.floor(fraction / 2 ^ 32), fraction % 2 ^ 32
    return string.char(
      sign + math.floor(exponent / 16), exponent % 16 * 16 + math.floor(high / 65536), math.floor(high / 256) % 256, high % 256,
      math.floor(low / 16777216), math.floor(low / 65536) % 256, math.floor(low / 256) % 256, low % 256
    )
  end

  function own.pack(format, ...)
    local texts = {}
    for i = 1, #format - 1 do texts[i] = bytes_of((select(i, ...))) end
    return table.concat(texts)
  end

  function own.unpack(format, text, place)
    local numbers = {}
    place = place or 1
    for i = 1, #format - 1 do
      local a, b, c, d, e, f, g, h = string.byte(text, place, place + 7)
      local exponent = a % 128 * 16 + math.floor(b / 16)
      local fraction = ((b % 16 * 256 + c) * 256 + d) * 2 ^ 32 + ((e * 256 + f) * 256 + g) * 256 + h
      local x
      if exponent == 2047 then
        x = fraction == 0 and math.huge or 0 / 0
      elseif exponent == 0 then
        x = math.ldexp(fraction, -1074)
      else
        x = math.ldexp(1 + fraction / 2 ^ 52, exponent - 1023)
      end
      numbers[i] = a > 127 and -x or x
      place = place + 8
    end
    numbers[#format] = place
    return unpack(numbers)
  end

  return own
end)()
