-- Twin of sliding_log.py: the same float operations in the same order. s and p count from 1 here; s has its time, the sum, and
-- the fields of a log (ratesim/storage/redis/lua/log.lua), which is read as far as a decision needs.
local rule = {}

function rule.size(p) return nil end

function rule.start(s, p, now)
  s[1] = now
  s[2] = 0
  log.begin(s, 0)
end

function rule.refresh(s, p, now)
  s[1] = now
  local time, cost, chunk, place = log.entry(s, s.first, s.place)
  if not time or now < time + p[2] then return end
  if now >= log.newest(s) + p[2] then
    s[2] = 0
    log.begin(s, s.open)
    return
  end
  while now >= time + p[2] do
    s[2] = s[2] - cost
    s.first, s.place = chunk, place
    time, cost, chunk, place = log.entry(s, chunk, place)
  end
  log.settle(s)
end

function rule.rewind(s, p, now)
  s[1] = now
  log.fold(s, now)
end

function rule.available(s, p, now) return p[1] - s[2] end

function rule.charge(s, p, cost, now)
  if cost == 0 or now + p[2] <= s[1] then return end
  s[2] = s[2] + cost
  log.add(s, now, cost)
end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  local used = s[2]
  local oldest, gone, chunk, place = log.entry(s, s.first, s.place)
  while oldest do
    used = used - gone
    local time = oldest
    oldest, gone, chunk, place = log.entry(s, chunk, place)
    if not oldest or p[1] - used >= cost then return time + p[2] - now end
  end
  return 0
end

function rule.reset_after(s, p, now)
  local newest = log.newest(s)
  if not newest then return 0 end
  return newest + p[2] - now
end

return rule
