#!/usr/bin/env bash
# A child in bash: it runs one job at a time, and looks for messages while it waits, so that jobs can be canceled.
# The argument, if there is one, is a prefix for the names of its tasks.
#
# A task is a function: payload on standard input, result on standard output, log on standard error. A function that
# returns something other than 0 fails the job; $error explains why.
LC_ALL=C # ${#tasks} counts bytes

prefix=${1-}
tasks='[
  {"name":"'$prefix'echo","accepts":["application/json","application/octet-stream","text/plain"],"max_payload":1048576},
  {"name":"'$prefix'fail"},
  {"name":"'$prefix'wait"},
  {"name":"'$prefix'log","accepts":["text/plain","application/json"]}
]'

task_echo() {
  result_type=$content_type
  cat
}

task_fail() {
  error='{"code":"on_purpose","message":"this task always fails","retryable":false}'
  return 1
}

# Does not return before the job is canceled.
task_wait() {
  until canceled; do
    progress 0.5 "waiting to be canceled"
    sleep 0.1
  done
  error='{"code":"canceled","message":"stopped, because the job was canceled"}'
  return 1
}

task_log() {
  cat >&2
  echo >&2
}

# Sends a message without a body. Bash writes a line at once, so a message is never cut.
send() { printf '%s\n' "$1" >&"$CRUNCH_OUT_FD"; }

# The message must not contain quotes or backslashes.
progress() { send "{\"type\":\"progress\",$job,\"progress\":$1,\"message\":\"$2\"}"; }

# The members of the newest message as they are written in JSON, strings with their quotes, to be copied into answers.
type='' id='' epoch='' task='' content_type='' body=''

# Reads one message.
receive() {
  local message name pattern
  IFS= read -r message <&"$CRUNCH_IN_FD" || exit 0 # the worker is gone, or does not need this child
  # `metadata` is the last member. Clients fill it, so names of other members may occur in it. Elsewhere a name with its
  # quotes cannot be mistaken: inside a string, quotes are escaped.
  message=${message%%,\"metadata\":*}
  for name in type id epoch task content_type body; do
    pattern="\"$name\":(\"([^\"\\\\]|\\\\.)*\"|[0-9]+)"
    [[ $message =~ $pattern ]]
    printf -v "$name" %s "${BASH_REMATCH[1]-}"
  done
  case $type in
    '"job"') read_body "$CRUNCH_DIR/payload" ;;
    *) read_body "$CRUNCH_DIR/ignored" ;; # the task that runs may not have read its payload yet
  esac
  case $type in
    '"ping"') send '{"type":"pong"}' ;;
    '"drain"') draining=1 ;;
  esac
}

# Stores the body. `head -c` would not do: that of Alpine takes more from the pipe than it prints, the next messages.
read_body() {
  : >"$1"
  if ((${body:-0} == 0)); then return; fi
  dd bs="$body" count=1 iflag=fullblock status=none <&"$CRUNCH_IN_FD" >"$1"
  if (($(wc -c <"$1") < body)); then exit 0; fi # the worker died while it wrote
}

# Whether the job was canceled. A task that may take long asks from time to time, at least every second.
canceled() {
  while read -t 0 -r <&"$CRUNCH_IN_FD"; do
    receive
    if [[ $type == '"cancel"' && "\"id\":$id,\"epoch\":$epoch" == "$job" ]]; then return 0; fi
  done
  return 1
}

# Runs a job and answers it. The worker deletes a result that was sent by file, at a time that it chooses: the next one
# needs another name.
run() {
  local name=${task//\"/} result=$CRUNCH_DIR/result-$results answer
  job="\"id\":$id,\"epoch\":$epoch"
  result_type='"application/json"'
  error='{}'
  # A program that outlives its task must not hold the pipes: start it with {CRUNCH_IN_FD}<&- {CRUNCH_OUT_FD}>&-
  if "task_${name#"$prefix"}" <"$CRUNCH_DIR/payload" >"$result"; then
    answer="{\"type\":\"done\",$job,\"content_type\":$result_type"
    if [[ -s $result ]]; then
      answer+=",\"file\":\"$result\""
      ((results += 1))
    fi
    send "$answer}"
  else
    send "{\"type\":\"failed\",$job,\"error\":$error}"
  fi
}

draining=0
results=0
printf '{"type":"hello","channel":1,"sdk":"child.sh","body":%d}\n%s' ${#tasks} "$tasks" >&"$CRUNCH_OUT_FD"
while ((!draining)); do
  receive
  if [[ $type == '"job"' ]]; then run; fi
done
