#!/bin/sh
# What pi-acp and a handover start instead of pi: the same, with Muster's extension and no other, nothing of the
# project's own settings, and its sessions where a project cannot move them.

# pi-acp drops what pi says when it fails; its own standard error is read. A person's terminal shows it.
if [ ! -t 2 ] && [ -w "/proc/$PPID/fd/2" ]; then
  exec 2>>"/proc/$PPID/fd/2"
fi
exec "${MUSTER_PI:-pi}" --no-extensions --extension "${0%/*}/pi.mjs" --no-skills --no-prompt-templates --no-approve \
  --session-dir "$PI_CODING_AGENT_DIR/sessions" \
  ${MUSTER_PI_PROVIDER:+--provider "$MUSTER_PI_PROVIDER"} ${MUSTER_PI_MODEL:+--model "$MUSTER_PI_MODEL"} "$@"
