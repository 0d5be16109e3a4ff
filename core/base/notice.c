/* The one receiver of notices. */
#include "core/base/notice.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static qe_notice_function receiver;

void qe_notice_set(qe_notice_function function) {
  pthread_mutex_lock(&lock);
  receiver = function;
  pthread_mutex_unlock(&lock);
}

void qe_notice(const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  pthread_mutex_lock(&lock);
  if (receiver) receiver(text);
  pthread_mutex_unlock(&lock);
}
