-- Apply consumption decided elsewhere, once however often it is sent (the rule: `undelivered_part` in ratesim/storage/deduplicate.py).
-- A state that is too far ahead of the time at which the charge was sent is brought back to it. By the server's clock the entries
-- are moved by as much as the sender's clock differs from it.
-- KEYS: the identifier's hash. ARGV: field prefix, algorithm, least time to live, expiry margin, node, epoch, before, time of
-- sending or '', clock (client|server), seconds that the state may be ahead, number of parameters, parameters, then time, cost,
-- requests of each entry. Answers {states brought back, HGETALL of the hash}.
local key, prefix, algorithm = KEYS[1], ARGV[1], ARGV[2]
local least, margin = tonumber(ARGV[3]), tonumber(ARGV[4])
local node, epoch, before = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local sent, skew = tonumber(ARGV[8]), tonumber(ARGV[10])
local moved = 0
if sent and ARGV[9] == 'server' then
  moved = time_of('server') - sent
  sent = sent + moved
end
local count = tonumber(ARGV[11])
local p = {}
for i = 1, count do p[i] = tonumber(ARGV[11 + i]) end
local entries, total = {}, 0
for i = 12 + count, #ARGV, 3 do
  local entry = {time = tonumber(ARGV[i]) + moved, cost = tonumber(ARGV[i + 1]), requests = tonumber(ARGV[i + 2])}
  entries[#entries + 1] = entry
  total = total + entry.cost
end
total = before + total

local rule = rules[algorithm]
local s = load(key, prefix, algorithm, p, entries[1].time)
local born
if not s then
  s = {}
  born = entries[1].time
  rule.start(s, p, born)
end

local field = prefix .. 'w:' .. node
local mark = not born and redis.call('HGET', key, field)
local known_epoch, consumed
if mark then
  local e, c = string.match(mark, '(%S+) (%S+)')
  known_epoch, consumed = tonumber(e), tonumber(c)
end
local due, new_epoch, new_consumed = {}, epoch, total
if not mark or known_epoch < epoch then
  due = entries
elseif known_epoch > epoch or consumed >= total then
  new_epoch, new_consumed = known_epoch, consumed
else
  local upto = before
  for _, entry in ipairs(entries) do
    if upto >= consumed then
      local lost = 0
      if #due == 0 then lost = math.max(before - consumed, 0) end
      due[#due + 1] = {time = entry.time, cost = entry.cost + lost, requests = entry.requests}
    elseif upto + entry.cost > consumed then
      due[#due + 1] = {time = entry.time, cost = upto + entry.cost - consumed, requests = entry.requests}
    end
    upto = upto + entry.cost
  end
end

local requests, rewound = 0, 0
if #due > 0 and sent and s[1] - sent > skew then
  rule.rewind(s, p, sent)
  rewound = 1
end
for _, entry in ipairs(due) do
  if entry.time > s[1] then rule.refresh(s, p, entry.time) end
  rule.charge(s, p, entry.cost, entry.time)
  requests = requests + entry.requests
end
local at = math.max(entries[#entries].time, s[1])
local fresh = rule.reset_after(s, p, at)
store(key, prefix, algorithm, s, at, at + fresh + margin, born)
redis.call('HSET', key, field, number(new_epoch) .. ' ' .. number(new_consumed))
redis.call('HINCRBY', key, prefix .. 'request_count', requests)
keep(key, fresh + margin + skew, least)
return {rewound, redis.call('HGETALL', key)}
