-- The time of a decision: as the caller says, or of this server where it says `server`.
function time_of(text)
  if text ~= 'server' then return tonumber(text) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end
