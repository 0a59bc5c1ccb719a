#!/bin/sh
# A child in POSIX sh: it runs one job at a time, and reads the next message when the job has ended. So it cannot be
# asked to stop a job, and has no task `wait`: a job that is canceled ends with the whole child, which the worker replaces.
# The argument, if there is one, is a prefix for the names of its tasks.
#
# A task is a function: payload on standard input, result on standard output, log on standard error. A function that
# returns something other than 0 fails the job; $error explains why.
set -f # a message is split into words below, which are not patterns of file names
LC_ALL=C # ${#tasks} counts bytes
export LC_ALL

prefix=${1-}
tasks='[
  {"name":"'$prefix'echo","accepts":["application/json","application/octet-stream","text/plain"],
   "content_type":"application/octet-stream","max_payload":1048576},
  {"name":"'$prefix'fail"},
  {"name":"'$prefix'log","accepts":["text/plain","application/json"]}
]'

task_echo() { cat; }

task_fail() {
  error='{"code":"on_purpose","message":"this task always fails","retryable":false}'
  return 1
}

task_log() {
  cat >&2
  echo >&2
}

# Descriptors have one digit: POSIX shells know no others.
send() { printf '%s\n' "$1" >&"$CRUNCH_OUT_FD"; }

# Reads one message. The variables have its members as they are written in JSON, strings with their quotes, so that they
# can be copied into an answer.
receive() {
  IFS= read -r message <&"$CRUNCH_IN_FD" || exit 0 # the worker is gone, or does not need this child
  # `metadata` is the last member. Clients fill it, so names of other members may occur in it. Elsewhere a name with its
  # quotes cannot be mistaken: inside a string, quotes are escaped.
  message=${message%%,\"metadata\":*}
  message=${message#\{}
  type='' id='' epoch='' task='' body=0
  IFS=,
  for member in ${message%\}}; do
    case $member in
      '"type":'*) type=${member#*:} ;;
      '"id":'*) id=${member#*:} ;;
      '"epoch":'*) epoch=${member#*:} ;;
      '"task":'*) task=${member#*:} ;;
      '"body":'*) body=${member#*:} ;;
    esac
  done
  unset IFS
  : >"$CRUNCH_DIR/body"
  if [ "$body" -gt 0 ]; then read_body; fi
}

# `head -c` would not do: that of Alpine takes more from the pipe than it prints, the next messages.
read_body() {
  dd bs="$body" count=1 iflag=fullblock <&"$CRUNCH_IN_FD" >"$CRUNCH_DIR/body" 2>/dev/null
  if [ "$(wc -c <"$CRUNCH_DIR/body")" -lt "$body" ]; then exit 0; fi # the worker died while it wrote
}

# Runs a job and answers it. The worker deletes a result that was sent by file, at a time that it chooses: the next one
# needs another name.
run() {
  task=${task#\"} task=${task%\"}
  result=$CRUNCH_DIR/result-$results
  error='{}'
  # A program that outlives its task must not hold the pipes:
  # eval "program $CRUNCH_IN_FD<&- $CRUNCH_OUT_FD>&-"
  if ! "task_${task#"$prefix"}" <"$CRUNCH_DIR/body" >"$result"; then
    send "{\"type\":\"failed\",\"id\":$id,\"epoch\":$epoch,\"error\":$error}"
  elif [ -s "$result" ]; then
    send "{\"type\":\"done\",\"id\":$id,\"epoch\":$epoch,\"file\":\"$result\"}"
    results=$((results + 1))
  else
    send "{\"type\":\"done\",\"id\":$id,\"epoch\":$epoch}"
  fi
}

results=0
printf '{"type":"hello","channel":1,"sdk":"child-posix.sh","body":%d}\n%s' ${#tasks} "$tasks" >&"$CRUNCH_OUT_FD"
while receive; do
  case $type in
    '"job"') run ;;
    '"ping"') send '{"type":"pong"}' ;;
    '"drain"') exit 0 ;;
  esac
done
