-- The whole audit log in order, every value as text, so that what was tampered with can be read whatever it now is.
-- Parameters: none. Locks: none (ACCESS SHARE, as every SELECT). Rows: one an event, by a server-side cursor.
-- Time: about 8 s a million events, most of it hashing at the client.
SELECT id, prev_hash, hash,
       id::text, extract(epoch FROM occurred_at)::text, actor_kind, actor_id::text, actor, api_key_id::text, action,
       object_type, object_id, result, address::text, user_agent, request_id, detail::text
  FROM audit_events
 ORDER BY audit_events.id
