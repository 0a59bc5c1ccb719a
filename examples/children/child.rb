#!/usr/bin/env ruby
# frozen_string_literal: true

# A child in Ruby: the main thread runs one job at a time, another thread reads messages.
# The argument, if there is one, is a prefix for the names of its tasks.
require "json"

INPUT = IO.for_fd(Integer(ENV.fetch("CRUNCH_IN_FD")), "rb")
OUTPUT = IO.for_fd(Integer(ENV.fetch("CRUNCH_OUT_FD")), "wb")
[INPUT, OUTPUT].each { |pipe| pipe.close_on_exec = true } # programs that a task starts do not get the pipes
SENDING = Mutex.new

def send_message(message, body = "")
  SENDING.synchronize do
    OUTPUT.write(JSON.generate(message), "\n", body)
    OUTPUT.flush
  end
end

# Raised by a task to choose the error of its job. Other errors fail the job too, and it is tried again.
class TaskError < StandardError
  attr_reader :error

  def initialize(code, message, retryable: true)
    super(message)
    @error = { code: code, message: message, retryable: retryable }
  end
end

# A job that runs.
class Job
  attr_reader :id, :epoch, :task, :content_type, :payload

  def initialize(message, payload)
    @id, @epoch, @task, @content_type = message.values_at("id", "epoch", "task", "content_type")
    @payload = payload
    @canceled = false
  end

  def cancel = @canceled = true
  def canceled? = @canceled

  def answer(type, body = "", **members)
    send_message({ type: type, id: id, epoch: epoch, **members }, body)
  end

  def progress(progress, message) = answer(:progress, progress: progress, message: message)
end

# A task returns its result, and the content type unless it is JSON.
TASKS = {
  "echo" => ->(job) { [job.payload, job.content_type] },
  "fail" => ->(_job) { raise TaskError.new("on_purpose", "this task always fails", retryable: false) },
  "wait" => lambda do |job|
    until job.canceled?
      job.progress(0.5, "waiting to be canceled")
      sleep 0.1
    end
    raise TaskError.new("canceled", "stopped, because the job was canceled")
  end,
  "log" => lambda do |job|
    puts job.payload
    "null"
  end
}.transform_keys { |name| "#{ARGV.join}#{name}" }

def run(job)
  body, content_type = TASKS.fetch(job.task).call(job)
  job.answer(:done, body, body: body.bytesize, content_type: content_type || "application/json")
rescue TaskError => e
  job.answer(:failed, error: e.error)
rescue StandardError => e
  warn e.full_message(highlight: false)
  job.answer(:failed, error: { message: "#{e.class}: #{e.message}" })
end

# Reads messages, until the worker is gone or does not need this child. Nobody reads an answer then.
def read(jobs)
  job = nil
  while (line = INPUT.gets)&.end_with?("\n")
    message = JSON.parse(line)
    size = message.fetch("body", 0)
    body = INPUT.read(size).to_s
    break if body.bytesize < size

    case message["type"]
    when "job" then jobs << (job = Job.new(message, body))
    when "cancel" then job.cancel if job && message.values_at("id", "epoch") == [job.id, job.epoch]
    when "ping" then send_message({ type: "pong" })
    when "drain" then jobs.close
    end
  end
  exit!(0)
end

$stdout.sync = true
Thread.abort_on_exception = true
accepts = ["application/json", "application/octet-stream", "text/plain"]
declarations = JSON.generate(TASKS.keys.map { |name| { name: name, accepts: accepts, max_payload: 1 << 20 } })
send_message({ type: :hello, channel: 1, sdk: "child.rb", body: declarations.bytesize }, declarations)
jobs = Queue.new
Thread.new { read(jobs) }
while (job = jobs.pop) # nil after `drain`, when all jobs are answered
  run(job)
end
