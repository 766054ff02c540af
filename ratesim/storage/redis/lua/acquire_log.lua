-- acquire.lua for one sliding_log as it usually is: the same float operations in the same order (sliding_log.lua, log.lua), with
-- one HMGET, one HSET, and the chunk that holds the oldest entry. Whatever else there may be is left to acquire.lua, before
-- anything is written: several limits, a state that is too far ahead, of an earlier version, or of another algorithm.
if #ARGV == 11 then repeat
  local key, prefix, cost, rate, period = KEYS[1], ARGV[6], tonumber(ARGV[2]), tonumber(ARGV[10]), tonumber(ARGV[11])
  local now
  if ARGV[1] == 'server' then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1e6
  else
    now = tonumber(ARGV[1])
  end
  local head_field, log_field = prefix .. 'log_head', prefix .. 'log'
  local found = redis.call('HMGET', key, prefix .. 'algorithm', head_field, log_field)
  local at, used, log, requests, first, open, place = now, 0, '', 0, 0, 0, 1
  local newest, chunk, time, its, gone
  local is_new = not found[1]
  if not is_new then
    if found[1] ~= 'sliding_log' or not found[2] then break end
    local expires_at, _, last
    expires_at, _, requests, last, used, first, open, place = struct.unpack('>dddddddd', found[2])
    if expires_at <= now or last - now > tonumber(ARGV[8]) then break end
    at, log = math.max(now, last), found[3]
    if first < open or place <= #log then
      newest = struct.unpack('>d', log, #log - 15)
      chunk = log
      if first < open then
        chunk = redis.call('HGET', key, prefix .. 'log:' .. first)
        if place > #chunk then break end
      end
      time, its = struct.unpack('>dd', chunk, place)
    end
    if time and at >= newest + period then
      if first < open then break end
      used, log, place, newest, time = 0, '', 1, nil, nil
    end
    while time and at >= time + period do
      used = used - its
      place = place + 16
      if place > #chunk then
        gone = gone or {}
        gone[#gone + 1] = prefix .. 'log:' .. first
        first, place = first + 1, 1
        chunk = first < open and redis.call('HGET', key, prefix .. 'log:' .. first) or log
      end
      time, its = struct.unpack('>dd', chunk, place)
    end
    if gone and #gone > 100 then break end
  end

  local left = rate - used
  local reset_after = newest and newest + period - at + (at - now) or at - now
  if left < cost then
    local wait = math.huge
    if cost <= rate then
      if not time then break end
      local later, number, before = used, first, nil
      repeat
        later, before = later - its, time
        place = place + 16
        if place > #chunk and number < open then
          number, place = number + 1, 1
          chunk = number < open and redis.call('HGET', key, prefix .. 'log:' .. number) or log
        end
        time = nil
        if place <= #chunk then time, its = struct.unpack('>dd', chunk, place) end
      until not time or rate - later >= cost
      local micros = math.max(math.ceil((before + period - at + (at - now)) * 1e6), 1)
      local enough = math.max(now + micros / 1e6, at)
      if enough < before + period or time and enough >= time + period or not time and rate < cost or micros >= 1e18 then break end
      wait = micros / 1e6
    end
    return {0, 0, string.format('%.17g', math.max(left, 0)), string.format('%.17g', wait), string.format('%.17g', reset_after), 0}
  end

  if ARGV[3] == '1' then
    if cost ~= 0 and at + period > at then
      used = used + cost
      if newest and newest >= at then
        if newest > at or #log < 16 then break end
        local _, sum = struct.unpack('>dd', log, #log - 15)
        log = string.sub(log, 1, -17) .. struct.pack('>dd', at, sum + cost)
      else
        if #log >= CHUNK then
          redis.call('HSET', key, prefix .. 'log:' .. open, log)
          open, log = open + 1, ''
        end
        log = log .. struct.pack('>dd', at, cost)
      end
      newest = at
      left = rate - used
      reset_after = at + period - at + (at - now)
    end
    if gone then redis.call('HDEL', key, unpack(gone)) end
    local margin = tonumber(ARGV[5])
    local head = struct.pack('>dddddddd', now + reset_after + margin, at, requests + 1, at, used, first, open, place)
    if is_new then
      local text = string.format('%.17g', now)
      redis.call('HSET', key, prefix .. 'algorithm', 'sliding_log', prefix .. 'created_at', text, head_field, head, log_field, log)
    else
      redis.call('HSET', key, head_field, head, log_field, log)
    end
    -- An eighth longer than needed, so that it is not said at each decision.
    local seconds = math.min(math.max(reset_after + margin + tonumber(ARGV[8]), tonumber(ARGV[4])), 1e10)
    if redis.call('PTTL', key) < seconds * 1000 then redis.call('PEXPIRE', key, math.ceil(seconds * 1125)) end
  end
  return {1, 0, string.format('%.17g', math.max(left, 0)), '0', string.format('%.17g', reset_after), 0}
until true end
