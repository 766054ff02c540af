-- Tell the limits of an identifier how the service behind them is doing.
-- KEYS: the identifier's hash. ARGV: now, score, least time to live, expiry margin, then for each limit its field prefix,
-- algorithm, number of parameters, parameters.
local key, now, score = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local least, margin = tonumber(ARGV[3]), tonumber(ARGV[4])

local position = 5
while position <= #ARGV do
  local w
  w, position = opened(key, position, now)
  w.rule.observe(w.s, w.p, score, w.at)
  local fresh = w.rule.reset_after(w.s, w.p, w.at)
  store(key, w.prefix, w.algorithm, w.s, w.at, w.at + fresh + margin, w.born)
  keep(key, fresh + margin, least)
end
return 1
