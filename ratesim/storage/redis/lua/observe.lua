-- Tell the limits of an identifier how the service behind them is doing.
-- KEYS: the identifier's hash. ARGV: now or `server`, score, least time to live, expiry margin, then for each limit its field
-- prefix, algorithm, seconds that its state may be ahead, number of parameters, parameters. Answers the number of states that
-- were brought back to now.
local key, now, score = KEYS[1], time_of(ARGV[1]), tonumber(ARGV[2])
local least, margin = tonumber(ARGV[3]), tonumber(ARGV[4])

local work, position, rewound = {}, 5, 0
while position <= #ARGV do
  work[#work + 1], position = opened(key, position, now)
end
if packed then return packed end
for _, w in ipairs(work) do
  w.rule.observe(w.s, w.p, score, w.at)
  local fresh = w.rule.reset_after(w.s, w.p, w.at)
  store(key, w.prefix, w.algorithm, w.s, w.at, w.at + fresh + margin, w.born, 0)
  keep(key, fresh + margin + w.skew, least)
  if w.rewound then rewound = rewound + 1 end
end
return rewound
