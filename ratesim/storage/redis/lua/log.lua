-- A log of entries, each a time and a cost, as two big-endian doubles; times rise. It lies in chunks of the hash, so that a decision
-- touches one or two of them, however long the log is: the newest is the field `log`, and older ones, which are full, are
-- `log:<number>`. The field `log_head` has eight doubles: expires_at, last_accessed, request_count, time and sum of the state, the
-- number of the newest chunk, 512 times the number of others plus the byte of the oldest one at which the oldest entry begins, and
-- the time of that. An empty log has an empty newest chunk. In a script a log has `first` and `open`, the numbers of the oldest and
-- the newest chunk, and `place`, that byte; `chunks`, those that were read or made, and `dirty`, the numbers of those that are to
-- be written. Copies share both, so that only the last one may be written to.
-- Before this comes CHUNK, the bytes of a full one (ratesim/storage/redis/log_fields.py).
log = {}

function log.begin(s, number)
  s.first, s.place, s.open, s.chunks, s.dirty = number, 1, number, {[number] = ''}, {[number] = true}
end

local function chunk(s, number)
  local text = s.chunks[number]
  if not text then
    text = s.fetch(number)
    s.chunks[number] = text
  end
  return text
end

local function set(s, number, text)
  s.chunks[number] = text
  s.dirty[number] = true
end

-- Time and cost of the entry at a place, or nil at the end; and the place behind it.
function log.entry(s, number, place)
  local text = chunk(s, number)
  if place > #text then
    if number == s.open then return nil end
    number, place = number + 1, 1
    text = chunk(s, number)
  end
  local time, cost = struct.unpack('>dd', text, place)
  return time, cost, number, place + 16
end

-- Time and cost of the entry before a place, or nil where the log begins; and its own place.
local function before(s, number, place)
  if number == s.first and place <= s.place then return nil end
  if place == 1 then
    number = number - 1
    place = #chunk(s, number) + 1
    if number == s.first and place <= s.place then return nil end
  end
  local time, cost = struct.unpack('>dd', chunk(s, number), place - 16)
  return time, cost, number, place - 16
end

-- The time of the newest entry; nil where there is none.
function log.newest(s)
  return (before(s, s.open, #chunk(s, s.open) + 1))
end

-- Let a log that begins behind its oldest chunk begin in the next one.
function log.settle(s)
  if s.first < s.open and s.place > #chunk(s, s.first) then s.first, s.place = s.first + 1, 1 end
end

local function push(s, bytes)
  local text = chunk(s, s.open)
  local from = 1
  while #text + #bytes - from + 1 > CHUNK do
    local upto = from + math.max(CHUNK - #text, 0)
    set(s, s.open, text .. string.sub(bytes, from, upto - 1))
    s.open, text, from = s.open + 1, '', upto
  end
  set(s, s.open, text .. string.sub(bytes, from))
end

-- Everything from a place on, which is taken away.
local function cut(s, number, place)
  local texts = {string.sub(chunk(s, number), place)}
  for each = number + 1, s.open do texts[#texts + 1] = chunk(s, each) end
  set(s, number, string.sub(chunk(s, number), 1, place - 1))
  s.open = number
  return table.concat(texts)
end

function log.add(s, time, cost)
  local number, place = s.open, #chunk(s, s.open) + 1
  local at, its, its_number, its_place = before(s, number, place)
  while at and at > time do
    number, place = its_number, its_place
    at, its, its_number, its_place = before(s, number, place)
  end
  if at == time then
    local text = chunk(s, its_number)
    set(s, its_number, string.sub(text, 1, its_place - 1) .. struct.pack('>dd', time, its + cost) .. string.sub(text, its_place + 16))
    return
  end
  local newer = ''
  if number < s.open or place <= #chunk(s, number) then newer = cut(s, number, place) end
  push(s, struct.pack('>dd', time, cost))
  if newer ~= '' then push(s, newer) end
end

-- Let the entries from `now` on be one at `now`.
function log.fold(s, now)
  local number, place, sum, found = s.open, #chunk(s, s.open) + 1, 0, false
  local at, its, its_number, its_place = before(s, number, place)
  while at and at >= now do
    found, sum, number, place = true, its + sum, its_number, its_place
    at, its, its_number, its_place = before(s, number, place)
  end
  if found then
    cut(s, number, place)
    push(s, struct.pack('>dd', now, sum))
  end
end

-- The log whose record is `head`, as it lies in the hash.
function log.load(key, prefix, head, newest)
  local s, expires_at, last_accessed, requests = {}
  local begins
  expires_at, last_accessed, requests, s[1], s[2], s.open, begins = struct.unpack('>dddddddd', head)
  s.place = begins % 512
  s.first = s.open - (begins - s.place) / 512
  s.requests, s.chunks, s.dirty, s.had_first, s.had_open = requests, {[s.open] = newest}, {}, s.first, s.open
  if not (s.first <= s.open and s.open - s.first < redis.call('HLEN', key)) then error('log_head names chunks that are not there') end
  s.fetch = function(number) return redis.call('HGET', key, prefix .. 'log:' .. number) end
  return s, expires_at
end

-- The log of a state that an earlier version wrote: numbers in text, one field for all entries.
function log.from_text(key, prefix)
  local found = redis.call(
    'HMGET', key, prefix .. 'expires_at', prefix .. 'request_count', prefix .. 'last', prefix .. 'used', prefix .. 'log'
  )
  local s = {tonumber(found[3]), tonumber(found[4]), requests = tonumber(found[2] or 0), was_text = true}
  log.begin(s, 0)
  local numbers, texts = {}, {}
  for value in string.gmatch(found[5], '%S+') do
    numbers[#numbers + 1] = tonumber(value)
    if #numbers == 2 then texts[#texts + 1], numbers = struct.pack('>dd', numbers[1], numbers[2]), {} end
  end
  push(s, table.concat(texts))
  return s, tonumber(found[1])
end

-- Write what has changed.
function log.store(key, prefix, s, at, expires_at, requests)
  local gone = s.was_text and {
    prefix .. 'expires_at', prefix .. 'last_accessed', prefix .. 'request_count', prefix .. 'last', prefix .. 'used'
  } or {}
  local from, upto = s.had_first or 0, (s.had_open or 0) - 1
  for number = from, math.min(s.first - 1, upto) do gone[#gone + 1] = prefix .. 'log:' .. number end
  for number = math.max(s.open, from), upto do gone[#gone + 1] = prefix .. 'log:' .. number end
  in_parts('HDEL', key, gone)
  local begins = (s.open - s.first) * 512 + s.place
  local oldest = log.entry(s, s.first, s.place) or 0
  local head = struct.pack('>dddddddd', expires_at, at, (s.requests or 0) + requests, s[1], s[2], s.open, begins, oldest)
  local values = {prefix .. 'log_head', head, prefix .. 'log', chunk(s, s.open)}
  for number in pairs(s.dirty) do
    if number >= s.first and number < s.open then
      values[#values + 1] = prefix .. 'log:' .. number
      values[#values + 1] = s.chunks[number]
    end
  end
  in_parts('HSET', key, values)
end
