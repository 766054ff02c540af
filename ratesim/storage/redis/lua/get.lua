-- The server's time and HGETALL of the hash. KEYS: the identifier's hash.
return {string.format('%.17g', time_of('server')), redis.call('HGETALL', KEYS[1])}
