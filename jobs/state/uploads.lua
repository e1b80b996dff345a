-- The uploads of a batch's local files at Replicate, by content. An entry is JSON {id?, url?, expires_at?, renew_at?, earlier,
-- deleted, begun, lost}: `id` is the upload that inputs use, `earlier` those that they used, `begun` the nonces of uploads
-- under way, `lost` those of uploads that nobody recorded, or that may be there twice. Lists are texts with blanks.
-- Idempotent: a call whose answer was lost may be repeated.
--
-- KEYS[1] HASH  sha256 -> entry
-- KEYS[2] HASH  the batch; its `uploads` is the nonce of the last upload begun, until all are deleted
-- ARGV    'begin', batch's id, sha256, nonce
-- ARGV    'record', batch's id, sha256, nonce, upload (JSON), 1 = it may be there twice
-- ARGV    'drop', batch's id, sha256, id of an upload: inputs use it no more
-- ARGV    'retire', batch's id, sha256...: at the batch's end no upload is in use any more
-- ARGV    'forget', batch's id, sha256, ids that are deleted, nonces whose uploads are
-- ARGV    'close', batch's id, nonce of the last upload begun: all are deleted
-- returns the entries; none when the batch is gone, for 'begin' and 'record' also when it is finished, for 'record' also
-- when its upload was retired, for 'retire' also when the batch is not finished

local op = ARGV[1]
local batch = redis.call('HMGET', KEYS[2], 'id', 'finished_at', 'uploads')
local finished = batch[2] and true or false

if batch[1] ~= ARGV[2] or (op == 'begin' or op == 'record') and finished or op == 'retire' and not finished then
  return {}
end

local function has(list, word)
  return (' ' .. list .. ' '):find(' ' .. word .. ' ', 1, true) ~= nil
end

local function with(list, words)
  for word in words:gmatch('%S+') do
    if not has(list, word) then
      list = list == '' and word or list .. ' ' .. word
    end
  end
  return list
end

local function without(list, words)
  local rest = ''
  for word in list:gmatch('%S+') do
    if not has(words, word) then
      rest = with(rest, word)
    end
  end
  return rest
end

local function load(sha256)
  local stored = redis.call('HGET', KEYS[1], sha256)
  return stored and cjson.decode(stored) or {earlier = '', deleted = '', begun = '', lost = ''}
end

local function save(sha256, entry)
  local text = cjson.encode(entry)
  redis.call('HSET', KEYS[1], sha256, text)
  return text
end

local function set_current(entry, upload)
  entry.earlier = with(entry.earlier, entry.id or '')
  entry.id, entry.url = upload.id, upload.url
  entry.expires_at, entry.renew_at = upload.expires_at, upload.renew_at
end

if op == 'close' then
  if batch[3] == ARGV[3] then
    redis.call('HDEL', KEYS[2], 'uploads')
  end
  return {}
end

if op == 'retire' then
  local texts = {}
  for i = 3, #ARGV do
    local entry = load(ARGV[i])
    set_current(entry, {})
    entry.lost, entry.begun = with(entry.lost, entry.begun), ''
    texts[#texts + 1] = save(ARGV[i], entry)
  end
  return texts
end

local sha256, nonce = ARGV[3], ARGV[4]
local entry = load(sha256)

if op == 'begin' then
  entry.begun = with(entry.begun, nonce)
  redis.call('HSET', KEYS[2], 'uploads', nonce)
elseif op == 'record' then
  local upload = cjson.decode(ARGV[5])
  if entry.id ~= upload.id and not has(entry.earlier, upload.id) then
    if not has(entry.begun, nonce) then
      return {}
    end
    set_current(entry, upload)
    entry.begun = without(entry.begun, nonce)
    entry.lost = ARGV[6] == '1' and with(entry.lost, nonce) or entry.lost
  end
elseif op == 'drop' then
  if entry.id ~= ARGV[4] then
    return {}
  end
  set_current(entry, {})
elseif op == 'forget' then
  entry.earlier, entry.lost = without(entry.earlier, ARGV[4]), without(entry.lost, ARGV[5])
  entry.deleted = with(entry.deleted, ARGV[4])
end
return {save(sha256, entry)}
