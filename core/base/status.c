/* Statuses and the per-thread message of the newest failure. */
#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };
static _Thread_local char message[MESSAGE_BYTES];

static const char *const names[] = {
#define X(id, text) #id,
    QE_STATUS_LIST(X)
#undef X
};
static const char *const texts[] = {
#define X(id, text) text,
    QE_STATUS_LIST(X)
#undef X
};

const char *qe_status_name(qe_status status) {
  return (size_t)status < sizeof names / sizeof *names ? names[status] : "UNKNOWN";
}

const char *qe_status_text(qe_status status) {
  return (size_t)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

#undef qe_fail /* macros where the analyser reads, see status.h */
#undef qe_fail_within

qe_status qe_fail(qe_status status, const char *format, ...) {
  char text[MESSAGE_BYTES]; /* the arguments may point into `message` */
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  memcpy(message, text, sizeof message);
  return status;
}

qe_status qe_fail_within(qe_status status, const char *format, ...) {
  char text[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  int used = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (used >= 0 && (size_t)used < sizeof text) {
    const char *inner = message[0] ? message : qe_status_text(status);
    snprintf(text + used, sizeof text - (size_t)used, ": %.*s", MESSAGE_BYTES - used - 3, inner);
  }
  memcpy(message, text, sizeof message);
  return status;
}

const char *qe_message(void) {
  return message;
}

void qe_message_clear(void) {
  message[0] = 0;
}
