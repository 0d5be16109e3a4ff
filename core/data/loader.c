/* Threads that decode the images of coming batches into a ring of slots.
 *
 * One lock guards the plan, which image is next to be decoded, and the slots; images take milliseconds, so it is rarely
 * fought for. Slot b % slots holds batch b of the plan; batches from `taken` on are those not yet handed out. */
#include "core/data/loader.h"

#include "core/base/alloc.h"
#include "core/data/crop.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 1024, MAX_THREADS = 256 };

typedef struct slot {
  uint8_t *pixels;
  int32_t left; /* images of its batch that are not decoded yet */
  int32_t bad;  /* the first image of its batch that cannot be read; -1: none */
  qe_status status;
  char message[MESSAGE];
} slot;

typedef struct worker {
  qe_loader *loader;
  pthread_t thread;
  qe_decoder *decoder;
  qe_resampler resampler;
  uint8_t *bytes;
  size_t capacity;
} worker;

struct qe_loader {
  const qe_image_list *list;
  qe_image_options options;
  bool augmented;
  int32_t batch;
  size_t image_bytes;
  worker *workers;
  int threads; /* started */
  slot *slots;
  int slot_count;
  double waited;

  pthread_mutex_t lock;
  pthread_cond_t work, done; /* something to decode; an image is decoded */
  bool stop;
  int busy; /* workers that decode */
  int32_t *index;
  size_t index_capacity;
  int64_t count; /* the plan: images, seed and position of the first */
  uint64_t seed, position;
  int64_t next;  /* the next image of the plan to be decoded */
  int64_t taken; /* batches handed out; the last one is still read by the caller */
};

/* ---- one image ---- */

static qe_status decode(worker *w, const char *name, size_t bytes, uint64_t seed, uint64_t position, uint8_t *target) {
  const qe_loader *loader = w->loader;
  const qe_image_options *options = &loader->options;
  qe_image_info info;
  qe_picture picture;
  QE_TRY(qe_image_size(w->decoder, w->bytes, bytes, name, &info));
  qe_crop crop = loader->augmented ? qe_crop_random(info.width, info.height, (uint32_t)(options->least_area * 65536),
                                                    options->side, seed, position)
                                   : qe_crop_middle(info.width, info.height, options->resize, options->side);
  int reduce = info.reducible ? qe_crop_reduce(&crop) : 1;
  crop = qe_crop_of_reduced(&crop, reduce, (info.width + reduce - 1) / reduce, (info.height + reduce - 1) / reduce);
  qe_region region = qe_crop_needs(&crop, options->side);
  QE_TRY(qe_image_decode(w->decoder, w->bytes, bytes, name, reduce, &region, &picture));
  return qe_resample(&w->resampler, &picture, &crop, options->side, target);
}

static qe_status load(worker *w, int32_t image, uint64_t seed, uint64_t position, uint8_t *target) {
  char name[MESSAGE];
  size_t bytes;
  const qe_image_list *list = w->loader->list;
  qe_image_list_name(list, (size_t)image, name, sizeof name);
  QE_TRY(qe_image_list_load(list, (size_t)image, &w->bytes, &w->capacity, &bytes));
  return decode(w, name, bytes, seed, position, target);
}

/* ---- threads ---- */

static slot *slot_of(const qe_loader *loader, int64_t batch) {
  return &loader->slots[batch % loader->slot_count];
}

/* There is an image to decode whose slot is free: the caller may still read the batch last handed out. */
static bool has_work(const qe_loader *loader) {
  if (loader->next >= loader->count) return false;
  int64_t oldest = loader->taken > 0 ? loader->taken - 1 : 0;
  return loader->next / loader->batch < oldest + loader->slot_count;
}

/* Decode the next image; the lock is held before and after, not meanwhile. */
static void take_image(worker *w) {
  qe_loader *loader = w->loader;
  int64_t at = loader->next++;
  int32_t within = (int32_t)(at % loader->batch), image = loader->index[at];
  slot *s = slot_of(loader, at / loader->batch);
  uint64_t seed = loader->seed, position = loader->position + (uint64_t)at;
  loader->busy++;
  pthread_mutex_unlock(&loader->lock);
  qe_status status = load(w, image, seed, position, s->pixels + (size_t)within * loader->image_bytes);
  pthread_mutex_lock(&loader->lock);
  loader->busy--;
  s->left--;
  if (status != QE_OK && (s->bad < 0 || within < s->bad)) {
    s->bad = within;
    s->status = status;
    strncpy(s->message, qe_message(), MESSAGE - 1);
  }
  if (s->left == 0 || loader->busy == 0) pthread_cond_broadcast(&loader->done);
}

static void *run_worker(void *argument) {
  worker *w = argument;
  qe_loader *loader = w->loader;
  pthread_mutex_lock(&loader->lock);
  while (!loader->stop) {
    if (has_work(loader))
      take_image(w);
    else
      pthread_cond_wait(&loader->work, &loader->lock);
  }
  pthread_mutex_unlock(&loader->lock);
  return NULL;
}

static qe_status start_worker(qe_loader *loader) {
  worker *w = &loader->workers[loader->threads];
  w->loader = loader;
  QE_TRY(qe_decoder_new(&w->decoder));
  int error = pthread_create(&w->thread, NULL, run_worker, w);
  if (error == 0) {
    loader->threads++;
    return QE_OK;
  }
  qe_decoder_free(w->decoder);
  w->decoder = NULL;
  return qe_fail(QE_NO_MEMORY, "cannot start a loader thread: %s; ask for fewer (--loader-threads)", strerror(error));
}

/* ---- opening ---- */

static int thread_count(const qe_image_options *options) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  int threads = options->threads > 0 ? options->threads : cores > 0 ? (int)cores : 1;
  return threads < MAX_THREADS ? threads : MAX_THREADS;
}

static qe_status open_loader(qe_loader *loader) {
  int threads = thread_count(&loader->options);
  loader->workers = QE_NEW_ARRAY(worker, threads);
  loader->slots = QE_NEW_ARRAY(slot, loader->slot_count);
  if (!loader->workers || !loader->slots) return QE_NO_MEMORY;
  for (int i = 0; i < loader->slot_count; i++) {
    loader->slots[i].pixels = qe_alloc((size_t)loader->batch * loader->image_bytes);
    if (!loader->slots[i].pixels) return QE_NO_MEMORY;
  }
  for (int i = 0; i < threads; i++) QE_TRY(start_worker(loader));
  return QE_OK;
}

qe_status qe_loader_new(const qe_dataset *data, bool test, bool augmented, int32_t batch, qe_loader **out) {
  if (!data->images) return qe_fail(QE_USAGE, "%s is in memory: it needs no loader", data->name);
  qe_loader *loader = QE_NEW(qe_loader);
  if (!loader) return QE_NO_MEMORY;
  const qe_image_options *options = &data->images->options;
  loader->list = &data->images->part[test];
  loader->options = *options;
  loader->augmented = augmented && options->least_area < 1;
  loader->batch = batch;
  loader->slot_count = options->prefetch + 1;
  loader->image_bytes = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  pthread_mutex_init(&loader->lock, NULL);
  pthread_cond_init(&loader->work, NULL);
  pthread_cond_init(&loader->done, NULL);
  qe_status status = open_loader(loader);
  if (status != QE_OK) {
    qe_loader_free(loader);
    return status;
  }
  *out = loader;
  return QE_OK;
}

void qe_loader_free(qe_loader *loader) {
  if (!loader) return;
  pthread_mutex_lock(&loader->lock);
  loader->stop = true;
  pthread_cond_broadcast(&loader->work);
  pthread_mutex_unlock(&loader->lock);
  for (int i = 0; i < loader->threads; i++) {
    worker *w = &loader->workers[i];
    pthread_join(w->thread, NULL);
    qe_decoder_free(w->decoder);
    qe_resampler_free(&w->resampler);
    qe_free(w->bytes);
  }
  for (int i = 0; loader->slots && i < loader->slot_count; i++) qe_free(loader->slots[i].pixels);
  pthread_mutex_destroy(&loader->lock);
  pthread_cond_destroy(&loader->work);
  pthread_cond_destroy(&loader->done);
  qe_free(loader->workers);
  qe_free(loader->slots);
  qe_free(loader->index);
  qe_free(loader);
}

/* ---- plans ---- */

static void reset_slot(qe_loader *loader, int64_t batch) {
  int64_t left = loader->count - batch * loader->batch;
  slot *s = slot_of(loader, batch);
  s->left = (int32_t)(left < loader->batch ? left : loader->batch);
  s->bad = -1;
}

/* The lock is held. Waits for the images that are being decoded: no new ones are begun meanwhile. */
static void drop_plan(qe_loader *loader) {
  loader->count = loader->next = loader->taken = 0;
  while (loader->busy > 0) pthread_cond_wait(&loader->done, &loader->lock);
}

qe_status qe_loader_expect(qe_loader *loader, const int32_t *index, int64_t count, uint64_t seed, uint64_t position) {
  for (int64_t i = 0; i < count; i++)
    if (index[i] < 0 || (size_t)index[i] >= loader->list->count)
      return qe_fail(QE_SHAPE, "image %d asked for: must be from 0 to %zu", index[i], loader->list->count - 1);
  pthread_mutex_lock(&loader->lock);
  drop_plan(loader);
  qe_status status = qe_reserve(&loader->index, &loader->index_capacity, (size_t)count, sizeof *loader->index);
  if (status == QE_OK) {
    if (count > 0) memcpy(loader->index, index, (size_t)count * sizeof *index);
    loader->count = count;
    loader->seed = seed;
    loader->position = position;
    for (int i = 0; i < loader->slot_count && (int64_t)i * loader->batch < count; i++) reset_slot(loader, i);
    pthread_cond_broadcast(&loader->work);
  }
  pthread_mutex_unlock(&loader->lock);
  return status;
}

static bool is_next(const qe_loader *loader, const int32_t *index, int32_t count, uint64_t seed, uint64_t position) {
  int64_t first = loader->taken * loader->batch, left = loader->count - first;
  return left > 0 && count == (left < loader->batch ? left : loader->batch) && seed == loader->seed &&
         position == loader->position + (uint64_t)first &&
         memcmp(loader->index + first, index, (size_t)count * sizeof *index) == 0;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

qe_status qe_loader_take(qe_loader *loader, const int32_t *index, int32_t count, uint64_t seed, uint64_t position,
                         const uint8_t **pixels) {
  if (count < 1 || count > loader->batch)
    return qe_fail(QE_SHAPE, "a batch of %d images asked for: must be 1 to %d", count, loader->batch);
  if (!is_next(loader, index, count, seed, position)) QE_TRY(qe_loader_expect(loader, index, count, seed, position));
  double since = seconds();
  pthread_mutex_lock(&loader->lock);
  int64_t batch = loader->taken++;
  if (batch > 0) { /* the batch handed out before is no longer read: its slot is free */
    if ((batch - 1 + loader->slot_count) * loader->batch < loader->count)
      reset_slot(loader, batch - 1 + loader->slot_count);
    pthread_cond_broadcast(&loader->work);
  }
  slot *s = slot_of(loader, batch);
  while (s->left > 0) pthread_cond_wait(&loader->done, &loader->lock);
  pthread_mutex_unlock(&loader->lock);
  loader->waited += seconds() - since;
  *pixels = s->pixels;
  return s->bad < 0 ? QE_OK : qe_fail(s->status, "%s", s->message);
}

double qe_loader_waited(const qe_loader *loader) {
  return loader->waited;
}

int qe_loader_threads(const qe_loader *loader) {
  return loader->threads;
}

qe_status qe_loader_copy(const qe_dataset *data, bool test, const int32_t *index, int32_t count, uint8_t *pixels) {
  size_t each = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  const uint8_t *from = test ? data->test_pixels : data->train_pixels;
  if (!data->images) {
    for (int32_t i = 0; i < count; i++) memcpy(pixels + (size_t)i * each, from + (size_t)index[i] * each, each);
    return QE_OK;
  }
  if (count == 0) return QE_OK;
  qe_loader *loader;
  QE_TRY(qe_loader_new(data, test, false, count, &loader));
  qe_status status = qe_loader_take(loader, index, count, 0, 0, &from);
  if (status == QE_OK) memcpy(pixels, from, each * (size_t)count);
  qe_loader_free(loader);
  return status;
}
