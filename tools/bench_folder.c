/* Images a second of the loader on a folder of images, and of libturbojpeg alone on the same JPEGs in memory. */
#include "core/base/alloc.h"
#include "core/data/loader.h"
#include "tools/bench_data.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <turbojpeg.h>

enum { MAX_IMAGES = 256, BATCH = 32, CASES = 3, MAX_THREADS = 256 };
static const double turn_seconds = 0.6;

typedef struct encoded {
  uint8_t *bytes;
  size_t count;
} encoded;

typedef struct bench {
  qe_dataset *data;
  int images;     /* of the training part, the first */
  int32_t *index; /* [images] */
  encoded *jpeg;  /* [images]; not filled when not all are JPEGs */
  bool all_jpeg;
  int threads;
  qe_bench_row row[CASES]; /* alone, training, evaluation */
} bench;

/* ---- libturbojpeg alone ---- */

typedef struct decoding {
  const bench *b;
  _Atomic int64_t next;
  int64_t count;
  _Atomic bool failed;
} decoding;

static void *decode(void *argument) {
  decoding *d = argument;
  tjhandle jpeg = tjInitDecompress();
  uint8_t *pixels = NULL;
  size_t capacity = 0;
  for (int64_t at = atomic_fetch_add(&d->next, 1); jpeg && at < d->count; at = atomic_fetch_add(&d->next, 1)) {
    const encoded *e = &d->b->jpeg[at % d->b->images];
    int width, height, sampling, space;
    bool bad = tjDecompressHeader3(jpeg, e->bytes, e->count, &width, &height, &sampling, &space) != 0 ||
               qe_reserve(&pixels, &capacity, (size_t)width * (size_t)height * 4, 1) != QE_OK ||
               tjDecompress2(jpeg, e->bytes, e->count, pixels, width, 0, height,
                             space == TJCS_CMYK || space == TJCS_YCCK ? TJPF_CMYK : TJPF_RGB, 0) != 0;
    if (bad) atomic_store(&d->failed, true);
  }
  if (!jpeg) atomic_store(&d->failed, true);
  if (jpeg) tjDestroy(jpeg);
  qe_free(pixels);
  return NULL;
}

static qe_status run_alone(const bench *b, int64_t count) {
  decoding d = {.b = b, .count = count};
  pthread_t thread[MAX_THREADS];
  int started = 0;
  while (started < b->threads && pthread_create(&thread[started], NULL, decode, &d) == 0) started++;
  for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
  if (started < b->threads) return qe_fail(QE_NO_MEMORY, "cannot start %d threads", b->threads);
  return atomic_load(&d.failed) ? qe_fail(QE_FORMAT, "libturbojpeg cannot decode an image") : QE_OK;
}

/* ---- the loader ---- */

static qe_status run_loader(const bench *b, bool training, int64_t count) {
  qe_loader *loader;
  int32_t *index = QE_NEW_ARRAY(int32_t, count);
  if (!index) return QE_NO_MEMORY;
  for (int64_t i = 0; i < count; i++) index[i] = b->index[i % b->images];
  qe_status status = qe_loader_new(b->data, false, training, BATCH, &loader);
  if (status == QE_OK) {
    status = qe_loader_expect(loader, index, count, 1, 0);
    for (int64_t at = 0; status == QE_OK && at < count; at += BATCH) {
      const uint8_t *pixels;
      int32_t left = count - at < BATCH ? (int32_t)(count - at) : BATCH;
      status = qe_loader_take(loader, index + at, left, 1, (uint64_t)at, &pixels);
    }
    qe_loader_free(loader);
  }
  qe_free(index);
  return status;
}

/* The first images with this number of threads, into new memory. */
static qe_status pixels_with(const bench *b, bool training, int threads, uint8_t **pixels, size_t *bytes) {
  int32_t count = b->images < BATCH ? b->images : BATCH;
  int asked = b->data->images->options.threads;
  qe_loader *loader = NULL;
  const uint8_t *batch;
  *bytes = (size_t)count * (size_t)b->data->height * (size_t)b->data->width * 3;
  b->data->images->options.threads = threads;
  qe_status status = qe_loader_new(b->data, false, training, count, &loader);
  b->data->images->options.threads = asked;
  QE_TRY(status);
  status = qe_loader_take(loader, b->index, count, 1, 0, &batch);
  *pixels = status == QE_OK ? qe_alloc(*bytes) : NULL;
  if (*pixels) memcpy(*pixels, batch, *bytes);
  qe_loader_free(loader);
  return status == QE_OK && !*pixels ? QE_NO_MEMORY : status;
}

static qe_status check_threads(const bench *b, bool training, qe_bench_row *row) {
  uint8_t *one = NULL, *all = NULL;
  size_t bytes = 0;
  qe_status status = pixels_with(b, training, 1, &one, &bytes);
  if (status == QE_OK) status = pixels_with(b, training, b->threads + 1, &all, &bytes);
  if (status == QE_OK) {
    row->parity = memcmp(one, all, bytes) == 0;
    snprintf(row->error, sizeof row->error, "pixels %s with 1 and %d threads", row->parity ? "the same" : "differ",
             b->threads + 1);
  }
  qe_free(one);
  qe_free(all);
  return status;
}

/* ---- the whole ---- */

static qe_status run_case(const bench *b, int number, int64_t count) {
  return number == 0 ? run_alone(b, count) : run_loader(b, number == 1, count);
}

static qe_status load_images(bench *b) {
  const qe_image_list *list = &b->data->images->part[0];
  int64_t step = b->data->train_images / b->images; /* spread over the classes */
  b->all_jpeg = true;
  for (int i = 0; i < b->images; i++) {
    size_t capacity = 0;
    b->index[i] = (int32_t)(i * step);
    QE_TRY(qe_image_list_load(list, (size_t)b->index[i], &b->jpeg[i].bytes, &capacity, &b->jpeg[i].count));
    b->all_jpeg &= b->jpeg[i].count > 2 && b->jpeg[i].bytes[0] == 0xff && b->jpeg[i].bytes[1] == 0xd8;
  }
  return QE_OK;
}

static qe_status name_rows(bench *b) {
  static const char *const names[CASES] = {"libturbojpeg", "folder-training", "folder-evaluation"};
  for (int i = 0; i < CASES; i++) {
    qe_bench_row *row = &b->row[i];
    *row = (qe_bench_row){.bench = "data", .backend = "host", .unit = "images/s", .parity = true};
    snprintf(row->name, sizeof row->name, "%s", names[i]);
    snprintf(row->device, sizeof row->device, "%d loader threads, images of %dx%d", b->threads, b->data->width,
             b->data->height);
    if (i == 0) snprintf(row->error, sizeof row->error, "%d JPEGs in memory, decoded whole", b->images);
    if (i > 0) QE_TRY(check_threads(b, i == 1, row));
  }
  return QE_OK;
}

/* Cases take turns. */
static qe_status measure(const qe_options *options, bench *b) {
  int64_t count[CASES] = {0};
  int repeats = (int)qe_option_int(options, "repeat"), first = b->all_jpeg ? 0 : 1;
  for (int i = first; i < CASES; i++) {
    double start = qe_bench_clock();
    QE_TRY(run_case(b, i, b->images));
    double passes = ceil(turn_seconds / (qe_bench_clock() - start));
    count[i] = b->images * (int64_t)(passes < 1000 ? passes : 1000);
  }
  for (int turn = 0; turn < repeats; turn++)
    for (int i = first; i < CASES; i++) {
      double start = qe_bench_clock();
      QE_TRY(run_case(b, i, count[i]));
      b->row[i].sample[b->row[i].samples++] = (double)count[i] / (qe_bench_clock() - start);
    }
  return QE_OK;
}

static qe_status run(const qe_options *options, bench *b, qe_bench_row **rows, size_t *count) {
  qe_loader *loader;
  QE_TRY(qe_loader_new(b->data, false, false, 1, &loader));
  b->threads = qe_loader_threads(loader);
  qe_loader_free(loader);
  QE_TRY(load_images(b));
  QE_TRY(name_rows(b));
  QE_TRY(measure(options, b));
  double alone = qe_bench_value(&b->row[0]);
  for (int i = b->all_jpeg ? 0 : 1; i < CASES; i++) {
    if (i > 0) b->row[i].peak = alone;
    QE_TRY(qe_bench_add_row(&b->row[i], rows, count));
  }
  return QE_OK;
}

qe_status qe_bench_folder(const qe_options *options, qe_dataset *data, qe_bench_row **rows, size_t *count) {
  bench *b = QE_NEW(bench);
  if (!b) return QE_NO_MEMORY;
  b->data = data;
  b->images = data->train_images < MAX_IMAGES ? data->train_images : MAX_IMAGES;
  b->index = QE_NEW_ARRAY(int32_t, b->images);
  b->jpeg = QE_NEW_ARRAY(encoded, b->images);
  qe_status status = b->index && b->jpeg ? run(options, b, rows, count) : QE_NO_MEMORY;
  for (int i = 0; b->jpeg && i < b->images; i++) qe_free(b->jpeg[i].bytes);
  qe_free(b->index);
  qe_free(b->jpeg);
  qe_free(b);
  return status;
}
