-- Apply consumption decided elsewhere, once however often it is sent (the rule: `undelivered_part` in ratesim/storage/deduplicate.py).
-- A time of sending by the sender's clock asks to move the entries by as much as this server's clock differs from that.
-- KEYS: the identifier's hash. ARGV: field prefix, algorithm, least time to live, expiry margin, node, epoch, before, time of
-- sending or '', number of parameters, parameters, then time, cost, requests of each entry. Answers HGETALL of the hash.
local key, prefix, algorithm = KEYS[1], ARGV[1], ARGV[2]
local least, margin = tonumber(ARGV[3]), tonumber(ARGV[4])
local node, epoch, before = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local moved = ARGV[8] == '' and 0 or time_of('server') - tonumber(ARGV[8])
local count = tonumber(ARGV[9])
local p = {}
for i = 1, count do p[i] = tonumber(ARGV[9 + i]) end
local entries, total = {}, 0
for i = 10 + count, #ARGV, 3 do
  local entry = {time = tonumber(ARGV[i]) + moved, cost = tonumber(ARGV[i + 1]), requests = tonumber(ARGV[i + 2])}
  entries[#entries + 1] = entry
  total = total + entry.cost
end
total = before + total

local rule = rules[algorithm]
local s = load(key, prefix, algorithm, p, entries[1].time)
if packed then return packed end
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

local requests = 0
for _, entry in ipairs(due) do
  if entry.time > s[1] then rule.refresh(s, p, entry.time) end
  rule.charge(s, p, entry.cost, entry.time)
  requests = requests + entry.requests
end
local at = math.max(entries[#entries].time, s[1])
local fresh = rule.reset_after(s, p, at)
store(key, prefix, algorithm, s, at, at + fresh + margin, born, requests)
redis.call('HSET', key, field, number(new_epoch) .. ' ' .. number(new_consumed))
keep(key, fresh + margin, least)
return redis.call('HGETALL', key)
