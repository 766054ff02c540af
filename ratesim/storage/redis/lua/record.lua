-- One limit of an identifier is a set of fields of the identifier's hash, each beginning with `prefix`, so that HGETALL shows
-- a person all of it. Before this come `rules` and `fields`, the algorithms this script can run (ratesim/storage/redis/scripts.py),
-- and `logs`, which tells those whose states are logs: log.lua keeps them.

local function number(x) return string.format('%.17g', x) end

local packed -- the answer where a state was met that was put whole, see unpack.lua

-- Tell whether a state whose list is missing is packed.
local function is_packed(key, prefix)
  if redis.call('HEXISTS', key, prefix .. 'packed') == 0 then return false end
  packed = redis.error_reply('PACKED a state is packed; bring it into the form that scripts decide on')
  return true
end

-- The log that a decision at `now` goes on from, see log.lua.
local function load_log(key, prefix, algorithm, now)
  local found = redis.call('HMGET', key, prefix .. 'algorithm', prefix .. 'log_head', prefix .. 'log')
  if found[1] ~= algorithm then return nil end
  local s, expires_at
  if found[2] then
    s, expires_at = log.load(key, prefix, found[2], found[3])
  elseif not found[3] and is_packed(key, prefix) then
    return nil
  else
    s, expires_at = log.from_text(key, prefix)
  end
  return expires_at > now and s or nil
end

-- The record that a decision at `now` goes on from: its state, or nil where a fresh one is due.
local function load(key, prefix, algorithm, p, now)
  if logs[algorithm] then return load_log(key, prefix, algorithm, now) end
  local names = fields[algorithm]
  local wanted = {prefix .. 'algorithm', prefix .. 'expires_at'}
  for i = 1, #names do wanted[i + 2] = prefix .. names[i] end
  local found = redis.call('HMGET', key, unpack(wanted))
  if found[1] ~= algorithm or tonumber(found[2]) <= now then return nil end
  if not found[#wanted] and is_packed(key, prefix) then return nil end
  local s = {}
  for i = 1, #names do
    for value in string.gmatch(found[i + 2], '%S+') do s[#s + 1] = tonumber(value) end
  end
  local size = rules[algorithm].size(p)
  if size and #s ~= size then return nil end
  return s
end

-- A state that may be brought forward while s stays as it is.
local function copy(s)
  local own = {}
  for name, value in pairs(s) do own[name] = value end
  return own
end

-- The record of the limit that ARGV describes from `position` on (field prefix, algorithm, seconds that a state may be ahead of
-- `now`, number of parameters, parameters), brought forward to `now` or begun; and the position behind it. `stored` is its state
-- as it was found, or nil. One that was too far ahead was brought back to `now` before, and `rewound` is true.
local function opened(key, position, now)
  local w = {prefix = ARGV[position], algorithm = ARGV[position + 1], skew = tonumber(ARGV[position + 2]), p = {}}
  local count = tonumber(ARGV[position + 3])
  for i = 1, count do w.p[i] = tonumber(ARGV[position + 3 + i]) end
  w.rule = rules[w.algorithm]
  w.stored = load(key, w.prefix, w.algorithm, w.p, now)
  if w.stored then
    if w.stored[1] - now > w.skew then
      w.rule.rewind(w.stored, w.p, now)
      w.rewound = true
    end
    w.s = copy(w.stored)
    w.at = math.max(now, w.s[1])
    w.rule.refresh(w.s, w.p, w.at)
  else
    w.at = now
    w.born = now
    w.s = {}
    w.rule.start(w.s, w.p, now)
  end
  return w, position + 4 + count
end

-- `born` is the time at which the record begins, or nil where it goes on; `requests` is how many were admitted by it.
local function store(key, prefix, algorithm, s, at, expires_at, born, requests)
  if born then forget(key, prefix) end
  if logs[algorithm] then
    log.store(key, prefix, s, at, expires_at, requests)
    if born then redis.call('HSET', key, prefix .. 'algorithm', algorithm, prefix .. 'created_at', number(born)) end
    return
  end
  local names = fields[algorithm]
  local values = {prefix .. 'algorithm', algorithm, prefix .. 'last_accessed', number(at), prefix .. 'expires_at', number(expires_at)}
  for i = 1, #names - 1 do
    values[#values + 1] = prefix .. names[i]
    values[#values + 1] = number(s[i])
  end
  local last = {}
  for i = #names, #s do last[#last + 1] = number(s[i]) end
  values[#values + 1] = prefix .. names[#names]
  values[#values + 1] = table.concat(last, ' ')
  if born then
    values[#values + 1] = prefix .. 'created_at'
    values[#values + 1] = number(born)
  end
  redis.call('HSET', key, unpack(values))
  if requests > 0 then redis.call('HINCRBY', key, prefix .. 'request_count', requests) end
end

-- Keep the key for at least `seconds` more; other limits of the identifier may need it longer.
local function keep(key, seconds, least)
  local milliseconds = math.ceil(math.min(math.max(seconds, least), 1e10) * 1000)
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end
