/* Threads that take one image after the other and decode it. */
#include "tools/data_check.h"

#include "core/base/alloc.h"
#include "core/data/image.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256, NAME = 1024 };

typedef struct check {
  const qe_image_set *set;
  bool (*stop)(void);
  size_t next, images; /* of both parts, one behind the other */
  int running;
  qe_status status; /* of the check itself: no memory, no more images wanted */
  qe_bad_images *found;
  pthread_mutex_t lock; /* of all that is above */
} check;

typedef struct worker {
  check *of;
  qe_decoder *decoder;
  uint8_t *bytes;
  size_t capacity;
} worker;

static qe_status decode(worker *w, const qe_image_list *list, size_t image) {
  char name[NAME];
  size_t count;
  qe_image_info info;
  qe_picture picture;
  qe_image_list_name(list, image, name, sizeof name);
  QE_TRY(qe_image_list_load(list, image, &w->bytes, &w->capacity, &count));
  QE_TRY(qe_image_size(w->decoder, w->bytes, count, name, &info));
  return qe_image_decode(w->decoder, w->bytes, count, name, 1, NULL, &picture);
}

/* The lock is held. Running out of memory is no fault of the image. */
static qe_status add_bad(check *c, int part, size_t image, qe_status status) {
  qe_bad_images *found = c->found;
  if (status == QE_NO_MEMORY) return status;
  QE_TRY(qe_reserve(&found->bad, &found->capacity, found->count + 1, sizeof *found->bad));
  char *why = qe_strdup(qe_message());
  if (!why) return QE_NO_MEMORY;
  found->bad[found->count++] = (qe_bad_image){part, image, why};
  return QE_OK;
}

static void work(worker *w) {
  check *c = w->of;
  size_t training = c->set->part[0].count;
  pthread_mutex_lock(&c->lock);
  while (c->status == QE_OK && c->next < c->images) {
    size_t at = c->next++;
    int part = at >= training;
    size_t image = part ? at - training : at;
    pthread_mutex_unlock(&c->lock);
    qe_status status = decode(w, &c->set->part[part], image);
    pthread_mutex_lock(&c->lock);
    if (status != QE_OK) status = add_bad(c, part, image, status);
    if (status != QE_OK) c->status = status;
  }
  pthread_mutex_unlock(&c->lock);
}

static void *run_worker(void *context) {
  check *c = context;
  worker w = {.of = c};
  qe_status status = qe_decoder_new(&w.decoder);
  if (status == QE_OK) work(&w);
  qe_decoder_free(w.decoder);
  qe_free(w.bytes);
  pthread_mutex_lock(&c->lock);
  if (status != QE_OK) c->status = status;
  c->running--;
  pthread_mutex_unlock(&c->lock);
  return NULL;
}

static void watch(check *c) {
  const struct timespec pause = {.tv_sec = 0, .tv_nsec = 50000000};
  bool shown = isatty(STDERR_FILENO);
  for (int running = 1; running;) {
    pthread_mutex_lock(&c->lock);
    if (c->stop && c->stop() && c->status == QE_OK) c->status = QE_INTERRUPTED;
    running = c->running;
    size_t at = c->next, bad = c->found->count;
    pthread_mutex_unlock(&c->lock);
    if (shown) fprintf(stderr, running ? "\r%zu of %zu images, %zu bad " : "\r\033[K", at, c->images, bad);
    if (running) nanosleep(&pause, NULL);
  }
}

static int by_place(const void *left, const void *right) {
  const qe_bad_image *a = left, *b = right;
  if (a->part != b->part) return a->part - b->part;
  return (a->image > b->image) - (a->image < b->image);
}

qe_status qe_data_check(const qe_image_set *set, int threads, bool (*stop)(void), qe_bad_images *found) {
  check c = {.set = set, .stop = stop, .images = set->part[0].count + set->part[1].count, .found = found};
  pthread_t thread[MAX_THREADS];
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  int wanted = threads ? threads : cores > 0 ? (int)cores : 1, started = 0;
  if (wanted > MAX_THREADS) wanted = MAX_THREADS;
  pthread_mutex_init(&c.lock, NULL);
  while (started < wanted) {
    pthread_mutex_lock(&c.lock);
    bool made = pthread_create(&thread[started], NULL, run_worker, &c) == 0;
    c.running += made;
    pthread_mutex_unlock(&c.lock);
    if (!made) break;
    started++;
  }
  watch(&c);
  for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
  pthread_mutex_destroy(&c.lock);
  if (found->count > 0) qsort(found->bad, found->count, sizeof *found->bad, by_place);
  if (started == 0) return qe_fail(QE_NO_MEMORY, "no thread can be started to decode images");
  if (c.status == QE_INTERRUPTED) return qe_fail(c.status, "interrupted after %zu of %zu images", c.next, c.images);
  return c.status;
}

void qe_bad_images_free(qe_bad_images *found) {
  for (size_t i = 0; i < found->count; i++) qe_free(found->bad[i].why);
  qe_free(found->bad);
}
