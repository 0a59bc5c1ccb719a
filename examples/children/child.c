// A child in C11: it runs one job at a time, and looks for messages while it waits, so that jobs can be canceled.
// The argument, if there is one, is a prefix for the names of its tasks.
//
//     cc -std=c11 -O2 -o child child.c
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The longest line is that of a job; the largest payload that a task may accept.
enum { MAX_LINE = 256 * 1024, MAX_PAYLOAD = 64 * 1024 * 1024 };

struct message {
  char line[MAX_LINE + 1]; // the strings point into it
  const char *type, *id, *task, *content_type;
  uint64_t epoch, body;
  char *payload; // the body, if it is a job
};

static int in;    // the descriptor of the worker's messages
static FILE *out; // ours
static bool draining;

static _Noreturn void stop(const char *reason) {
  fprintf(stderr, "child: %s\n", reason);
  exit(EXIT_FAILURE);
}

// ---------------------------------------------------------------------------------------------------- reading JSON
// `at` is the place in the line, and moves on.

static void skip_space(char **at) { *at += strspn(*at, " \t\r\n"); }

static bool skip_char(char **at, char expected) {
  skip_space(at);
  if (**at != expected) return false;
  ++*at;
  return true;
}

// Returns one UTF-16 code unit from four hexadecimal digits.
static uint32_t code_unit(char **at) {
  char digits[5] = {0};
  memcpy(digits, *at, strnlen(*at, 4));
  if (strspn(digits, "0123456789abcdefABCDEF") != 4) stop("\\u without four hexadecimal digits");
  *at += 4;
  return (uint32_t)strtoul(digits, NULL, 16);
}

// Returns the character after \u: one code unit, or a surrogate pair. A lone surrogate becomes U+FFFD.
static uint32_t code_point(char **at) {
  uint32_t high = code_unit(at);
  if (high < 0xD800 || high > 0xDFFF) return high;
  if (high > 0xDBFF || strncmp(*at, "\\u", 2) != 0) return 0xFFFD;
  char *after = *at + 2;
  uint32_t low = code_unit(&after);
  if (low < 0xDC00 || low > 0xDFFF) return 0xFFFD;
  *at = after;
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

static char *put_utf8(char *to, uint32_t c) {
  if (c < 0x80) {
    *to++ = (char)c;
  } else if (c < 0x800) {
    *to++ = (char)(0xC0 | c >> 6);
    *to++ = (char)(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *to++ = (char)(0xE0 | c >> 12);
    *to++ = (char)(0x80 | (c >> 6 & 0x3F));
    *to++ = (char)(0x80 | (c & 0x3F));
  } else {
    *to++ = (char)(0xF0 | c >> 18);
    *to++ = (char)(0x80 | (c >> 12 & 0x3F));
    *to++ = (char)(0x80 | (c >> 6 & 0x3F));
    *to++ = (char)(0x80 | (c & 0x3F));
  }
  return to;
}

// Decodes a string in place, where it always fits: an escape is longer than what it stands for. A NUL ends it early.
static char *read_string(char **at) {
  if (!skip_char(at, '"')) stop("expected a string");
  char *from = *at, *to = *at, *text = *at;
  while (*from != '"') {
    if (*from == '\0') stop("a string has no end");
    if (*from != '\\') {
      *to++ = *from++;
      continue;
    }
    from++;
    switch (*from++) {
      case 'b': *to++ = '\b'; break;
      case 'f': *to++ = '\f'; break;
      case 'n': *to++ = '\n'; break;
      case 'r': *to++ = '\r'; break;
      case 't': *to++ = '\t'; break;
      case 'u': to = put_utf8(to, code_point(&from)); break;
      case '\0': stop("a string has no end");
      default: *to++ = from[-1]; // a quote, a backslash or a slash
    }
  }
  *to = '\0';
  *at = from + 1;
  return text;
}

static uint64_t read_number(char **at) {
  skip_space(at);
  if (**at < '0' || **at > '9') stop("expected a whole number");
  return strtoull(*at, at, 10);
}

// Skips any value: an object or a list ends where all brackets are closed.
static void skip_value(char **at) {
  int depth = 0;
  do {
    skip_space(at);
    switch (**at) {
      case '\0': stop("a value has no end");
      case '"': read_string(at); break;
      case '{': case '[': depth++; ++*at; break;
      case '}': case ']': depth--; ++*at; break;
      case ',': case ':': ++*at; break;
      default: *at += strcspn(*at, ",:[]{}\" \t\r\n"); // a number, true, false or null
    }
  } while (depth > 0);
}

// Reads the members of a message that this child knows, and skips the others.
static void parse(struct message *message) {
  char *at = message->line;
  message->type = message->id = message->task = message->content_type = "";
  message->epoch = message->body = 0;
  if (!skip_char(&at, '{')) stop("expected an object");
  if (skip_char(&at, '}')) return;
  do {
    const char *name = read_string(&at);
    if (!skip_char(&at, ':')) stop("expected a colon");
    if (strcmp(name, "type") == 0) message->type = read_string(&at);
    else if (strcmp(name, "id") == 0) message->id = read_string(&at);
    else if (strcmp(name, "task") == 0) message->task = read_string(&at);
    else if (strcmp(name, "content_type") == 0) message->content_type = read_string(&at);
    else if (strcmp(name, "epoch") == 0) message->epoch = read_number(&at);
    else if (strcmp(name, "body") == 0) message->body = read_number(&at);
    else skip_value(&at);
  } while (skip_char(&at, ','));
  if (!skip_char(&at, '}')) stop("expected the end of an object");
}

// ------------------------------------------------------------------------------------------------ reading messages

static char buffer[64 * 1024];
static size_t buffered, taken; // bytes in the buffer, and how many of them were used

// Makes at least one byte available. The end of the input means that the worker is gone or does not need this child.
static void fill(void) {
  if (taken < buffered) return;
  ssize_t got = read(in, buffer, sizeof buffer);
  if (got < 0) stop("cannot read from the worker");
  if (got == 0) exit(EXIT_SUCCESS);
  buffered = (size_t)got;
  taken = 0;
}

static void read_line(char line[MAX_LINE + 1]) {
  size_t length = 0;
  for (;;) {
    fill();
    char byte = buffer[taken++];
    if (byte == '\n') break;
    if (length == MAX_LINE) stop("a line is too long");
    line[length++] = byte;
  }
  line[length] = '\0';
}

// Copies a body, or skips it if there is nowhere to copy it to.
static void read_body(char *to, uint64_t size) {
  while (size > 0) {
    fill();
    size_t part = buffered - taken < size ? buffered - taken : (size_t)size;
    if (to) to = (char *)memcpy(to, buffer + taken, part) + part;
    taken += part;
    size -= part;
  }
}

static void send_line(const char *line) {
  fprintf(out, "%s\n", line);
  fflush(out);
}

// Reads one message, and answers it if every child would do the same.
static void receive(struct message *message) {
  read_line(message->line);
  parse(message);
  bool is_job = strcmp(message->type, "job") == 0;
  message->payload = NULL;
  if (is_job) {
    if (message->body > MAX_PAYLOAD) stop("a payload is too large");
    message->payload = malloc(message->body + 1);
    if (!message->payload) stop("no memory for a payload");
  }
  read_body(message->payload, message->body);
  if (strcmp(message->type, "ping") == 0) send_line("{\"type\":\"pong\"}");
  if (strcmp(message->type, "drain") == 0) draining = true;
}

// Whether there is a message, now or within this time.
static bool is_message_waiting(int milliseconds) {
  struct pollfd input = {.fd = in, .events = POLLIN};
  return taken < buffered || poll(&input, 1, milliseconds) > 0;
}

// Whether the job was canceled, now or within this time.
static bool canceled(const struct message *job, int milliseconds) {
  static struct message other;
  while (is_message_waiting(milliseconds)) {
    receive(&other);
    if (strcmp(other.type, "cancel") == 0 && strcmp(other.id, job->id) == 0 && other.epoch == job->epoch) return true;
    milliseconds = 0;
  }
  return false;
}

// -------------------------------------------------------------------------------------------------------- answering

static void write_string(const char *text) {
  putc('"', out);
  for (; *text; text++) {
    unsigned char byte = (unsigned char)*text;
    if (byte < 0x20) fprintf(out, "\\u%04x", byte);
    else if (byte == '"' || byte == '\\') fprintf(out, "\\%c", byte);
    else putc(byte, out);
  }
  putc('"', out);
}

// Writes what all messages about a job begin with. `finish` ends the message.
static void begin(const char *type, const struct message *job) {
  fprintf(out, "{\"type\":\"%s\",\"id\":", type);
  write_string(job->id);
  fprintf(out, ",\"epoch\":%" PRIu64, job->epoch);
}

static void finish(const char *body, size_t size) {
  fputs("}\n", out);
  fwrite(body, 1, size, out);
  fflush(out);
}

static void done(const struct message *job, const char *content_type, const char *result, size_t size) {
  begin("done", job);
  fputs(",\"content_type\":", out);
  write_string(content_type);
  fprintf(out, ",\"body\":%zu", size);
  finish(result, size);
}

static void failed(const struct message *job, const char *code, const char *message, bool retryable) {
  begin("failed", job);
  fputs(",\"error\":{\"code\":", out);
  write_string(code);
  fputs(",\"message\":", out);
  write_string(message);
  fprintf(out, ",\"retryable\":%s}", retryable ? "true" : "false");
  finish("", 0);
}

static void progress(const struct message *job, double progress, const char *message) {
  begin("progress", job);
  fprintf(out, ",\"progress\":%g,\"message\":", progress);
  write_string(message);
  finish("", 0);
}

// ------------------------------------------------------------------------------------------------------------ tasks

static void run_echo(const struct message *job) { done(job, job->content_type, job->payload, job->body); }

static void run_fail(const struct message *job) { failed(job, "on_purpose", "this task always fails", false); }

static void run_wait(const struct message *job) {
  do progress(job, 0.5, "waiting to be canceled");
  while (!canceled(job, 100));
  failed(job, "canceled", "stopped, because the job was canceled", true);
}

// Standard output is a log, but it is a pipe: what is not flushed stays in this process.
static void run_log(const struct message *job) {
  fwrite(job->payload, 1, job->body, stdout);
  putchar('\n');
  fflush(stdout);
  done(job, "application/json", "null", 4);
}

static const struct task {
  const char *name;
  void (*run)(const struct message *job);
} tasks[] = {{"echo", run_echo}, {"fail", run_fail}, {"wait", run_wait}, {"log", run_log}};
enum { TASKS = sizeof tasks / sizeof *tasks };

static void run(const char *prefix, const struct message *job) {
  size_t length = strlen(prefix);
  for (int i = 0; i < TASKS; i++) {
    if (strncmp(job->task, prefix, length) == 0 && strcmp(job->task + length, tasks[i].name) == 0) {
      tasks[i].run(job);
      return;
    }
  }
  failed(job, "no_task", "this child has no such task", true);
}

static void hello(const char *prefix) {
  char *body;
  size_t size;
  FILE *list = open_memstream(&body, &size);
  if (!list) stop("no memory");
  for (int i = 0; i < TASKS; i++) {
    fprintf(list, "%s{\"name\":\"%s%s\",\"max_payload\":1048576,", i == 0 ? "[" : ",", prefix, tasks[i].name);
    fputs("\"accepts\":[\"application/json\",\"application/octet-stream\",\"text/plain\"]}", list);
  }
  fputs("]", list);
  fclose(list);
  fprintf(out, "{\"type\":\"hello\",\"channel\":1,\"sdk\":\"child.c\",\"body\":%zu", size);
  finish(body, size);
  free(body);
}

// Returns a descriptor that a variable names. Programs that a task starts do not get it.
static int descriptor(const char *variable) {
  const char *number = getenv(variable);
  int fd = number ? atoi(number) : -1;
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) stop("CRUNCH_IN_FD and CRUNCH_OUT_FD must be open; a worker sets them");
  return fd;
}

int main(int argc, char **argv) {
  static struct message message;
  const char *prefix = argc > 1 ? argv[1] : "";
  in = descriptor("CRUNCH_IN_FD");
  out = fdopen(descriptor("CRUNCH_OUT_FD"), "w");
  if (!out) stop("cannot write to the worker");
  hello(prefix);
  while (!draining) {
    receive(&message);
    if (message.payload) run(prefix, &message);
    free(message.payload);
  }
}
