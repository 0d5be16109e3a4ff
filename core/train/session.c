/* Sessions: a program, its batches in and its losses out. */
#include "core/train/session.h"

#include "core/base/alloc.h"

#include <math.h>
#include <string.h>

qe_status qe_image_store_new(qe_queue *queue, const qe_dataset *data, bool test, qe_image_store *store) {
  int32_t images = test ? data->test_images : data->train_images;
  size_t bytes = (size_t)images * (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  *store = (qe_image_store){
      .labels = test ? data->test_labels : data->train_labels, .images = images, .data = data, .test = test};
  if (data->images) return QE_OK;
  QE_TRY(qe_buffer_new(queue->device, bytes, &store->pixels));
  QE_TRY(qe_queue_write(queue, store->pixels, 0, test ? data->test_pixels : data->train_pixels, bytes));
  return qe_queue_wait(queue);
}

void qe_image_store_free(qe_image_store *store) {
  qe_buffer_free(store->pixels);
  memset(store, 0, sizeof *store);
}

static qe_status open_loader(qe_session *session, bool augmented) {
  const qe_dataset *data = session->store->data;
  size_t image = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  QE_TRY(qe_buffer_new(session->queue->device, (size_t)session->batch * image, &session->staged));
  return qe_loader_new(data, session->store->test, augmented, session->batch, &session->loader);
}

static qe_status open_mix(qe_session *session, int32_t alpha) {
  qe_session_mix *mix = &session->mix;
  qe_device *device = session->queue->device;
  size_t row = (size_t)session->batch * sizeof(int32_t);
  QE_TRY(qe_mixup_init(&mix->draws, alpha));
  mix->on = true;
  QE_TRY(qe_buffer_new(device, row, &mix->rows));
  QE_TRY(qe_buffer_new(device, row, &mix->other));
  QE_TRY(qe_buffer_new(device, row, &mix->share));
  QE_TRY(qe_buffer_new(device, row, &mix->labels));
  mix->host_other = QE_NEW_ARRAY(int32_t, 3 * (int64_t)session->batch);
  if (!mix->host_other) return QE_NO_MEMORY;
  mix->host_share = mix->host_other + session->batch;
  mix->host_labels = mix->host_share + session->batch;
  for (int32_t i = 0; i < session->batch; i++) mix->host_other[i] = i;
  QE_TRY(qe_queue_write(session->queue, mix->rows, 0, mix->host_other, row));
  return qe_queue_wait(session->queue);
}

static void free_mix(qe_session_mix *mix) {
  qe_buffer_free(mix->rows);
  qe_buffer_free(mix->other);
  qe_buffer_free(mix->share);
  qe_buffer_free(mix->labels);
  qe_free(mix->host_other);
}

static qe_status open_twin(qe_session *session, const qe_lower_twin *from) {
  qe_session_twin *twin = &session->twin;
  qe_device *device = session->queue->device;
  size_t row = (size_t)session->batch * sizeof(int32_t);
  twin->on = true;
  QE_TRY(qe_buffer_new(device, row, &twin->guidance));
  if (from->hints > 0) QE_TRY(qe_buffer_new(device, row, &twin->hints));
  if (from->gradients) QE_TRY(qe_buffer_new(device, row, &twin->loss));
  if (from->gradients) QE_TRY(qe_buffer_new(device, row, &twin->hits));
  twin->host_guidance = QE_NEW_ARRAY(float, 3 * (int64_t)session->batch);
  twin->host_hits = QE_NEW_ARRAY(int32_t, session->batch);
  if (!twin->host_guidance || !twin->host_hits) return QE_NO_MEMORY;
  twin->host_hints = twin->host_guidance + session->batch;
  twin->host_loss = twin->host_hints + session->batch;
  return QE_OK;
}

static void free_twin(qe_session_twin *twin) {
  qe_buffer_free(twin->guidance);
  qe_buffer_free(twin->hints);
  qe_buffer_free(twin->loss);
  qe_buffer_free(twin->hits);
  qe_free(twin->host_guidance);
  qe_free(twin->host_hits);
}

static qe_status open_session(qe_session *session, const qe_graph *graph, qe_lower_options options, qe_buffer *params,
                              qe_buffer *gradients) {
  qe_device *device = session->queue->device;
  size_t row = (size_t)session->batch * sizeof(int32_t);
  QE_TRY(qe_buffer_new(device, row, &session->index));
  QE_TRY(qe_buffer_new(device, row, &session->labels));
  QE_TRY(qe_buffer_new(device, row, &session->loss));
  QE_TRY(qe_buffer_new(device, row, &session->hits));
  QE_TRY(qe_buffer_new(device, 4 * sizeof(int32_t), &session->counter));
  session->host_index = QE_NEW_ARRAY(int32_t, session->batch);
  session->host_labels = QE_NEW_ARRAY(int32_t, session->batch);
  session->host_hits = QE_NEW_ARRAY(int32_t, session->batch);
  session->host_loss = QE_NEW_ARRAY(float, session->batch);
  if (!session->host_index || !session->host_labels || !session->host_hits || !session->host_loss) return QE_NO_MEMORY;
  if (!session->store->pixels) QE_TRY(open_loader(session, options.training));
  options.images = session->loader ? session->batch : session->store->images;
  if (options.mixup > 0) QE_TRY(open_mix(session, options.mixup));
  if (options.twin) QE_TRY(open_twin(session, options.twin));
  qe_lower_buffers buffers = {.params = params,
                              .gradients = gradients,
                              .images = session->loader ? session->staged : session->store->pixels,
                              .index = session->index,
                              .counter = session->counter,
                              .labels = session->labels,
                              .loss = session->loss,
                              .hits = session->hits,
                              .rows = session->mix.rows,
                              .other = session->mix.other,
                              .share = session->mix.share,
                              .other_labels = session->mix.labels,
                              .guidance = session->twin.guidance,
                              .hints = session->twin.hints,
                              .twin_loss = session->twin.loss,
                              .twin_hits = session->twin.hits};
  return qe_lower(graph, device, &options, &buffers, &session->lowered);
}

qe_status qe_session_new(qe_queue *queue, const qe_graph *graph, const qe_lower_options *options, qe_buffer *params,
                         qe_buffer *gradients, const qe_image_store *store, qe_session *session) {
  *session = (qe_session){.queue = queue, .batch = options->batch, .store = store};
  qe_status status = open_session(session, graph, *options, params, gradients);
  if (status != QE_OK) qe_session_free(session);
  return status;
}

void qe_session_free(qe_session *session) {
  qe_lowered_free(&session->lowered);
  qe_loader_free(session->loader);
  qe_buffer_free(session->staged);
  qe_buffer_free(session->index);
  qe_buffer_free(session->labels);
  qe_buffer_free(session->loss);
  qe_buffer_free(session->hits);
  qe_buffer_free(session->counter);
  free_mix(&session->mix);
  free_twin(&session->twin);
  qe_free(session->host_index);
  qe_free(session->host_labels);
  qe_free(session->host_hits);
  qe_free(session->host_loss);
  qe_free(session->host_logits);
  memset(session, 0, sizeof *session);
}

static qe_answer answer_of(const float *logits, int32_t classes) {
  int32_t best = 0;
  double sum = 0;
  for (int32_t c = 1; c < classes; c++)
    if (logits[c] > logits[best]) best = c;
  for (int32_t c = 0; c < classes; c++) sum += exp((double)logits[c] - (double)logits[best]);
  return (qe_answer){best, (float)(1 / sum)};
}

/* What the network says of each image of the batch that has just run. */
static qe_status take_answers(qe_session *session, const int32_t *index, int32_t count) {
  const qe_lowered *lowered = &session->lowered;
  qe_value logits = lowered->output[lowered->nodes - 1];
  qe_desc desc = qe_program_desc(lowered->program, logits);
  int32_t classes = desc.dim[QE_C];
  if (!session->host_logits) session->host_logits = QE_NEW_ARRAY(float, qe_count(&desc));
  if (!session->host_logits) return QE_NO_MEMORY;
  QE_TRY(qe_program_read(lowered->program, session->queue, logits, session->host_logits));
  QE_TRY(qe_queue_wait(session->queue));
  for (int32_t i = 0; i < count; i++)
    session->answers[index[i]] = answer_of(session->host_logits + (int64_t)i * classes, classes);
  return QE_OK;
}

qe_status qe_session_expect(qe_session *session, const int32_t *index, int64_t count, uint64_t seed,
                            uint64_t position) {
  return session->loader ? qe_loader_expect(session->loader, index, count, seed, position) : QE_OK;
}

/* The images of the batch to the device; they are its first `count`. */
static qe_status stage(qe_session *session, const int32_t *index, int32_t count, uint64_t seed, uint64_t position) {
  const uint8_t *pixels;
  QE_TRY(qe_loader_take(session->loader, index, count, seed, position, &pixels));
  for (int32_t i = 0; i < session->batch; i++) session->host_index[i] = i < count ? i : 0;
  size_t image = session->staged->bytes / (size_t)session->batch;
  return qe_queue_write(session->queue, session->staged, 0, pixels, (size_t)count * image);
}

/* Who is mixed with whom in the batch of host_index. */
static qe_status start_mix(qe_session *session, uint64_t seed, uint64_t position) {
  qe_session_mix *mix = &session->mix;
  size_t row = (size_t)session->batch * sizeof(int32_t);
  qe_mixup_draw(&mix->draws, seed, position, session->batch, mix->host_other, mix->host_share);
  for (int32_t i = 0; i < session->batch; i++) mix->host_labels[i] = session->host_labels[mix->host_other[i]];
  QE_TRY(qe_queue_write(session->queue, mix->other, 0, mix->host_other, row));
  QE_TRY(qe_queue_write(session->queue, mix->share, 0, mix->host_share, row));
  return qe_queue_write(session->queue, mix->labels, 0, mix->host_labels, row);
}

static qe_status read_twin(qe_session *session) {
  qe_session_twin *twin = &session->twin;
  const struct {
    qe_buffer *from;
    void *to;
  } rows[] = {{twin->guidance, twin->host_guidance},
              {twin->hints, twin->host_hints},
              {twin->loss, twin->host_loss},
              {twin->hits, twin->host_hits}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (rows[i].from) QE_TRY(qe_queue_read(session->queue, rows[i].from, 0, rows[i].to, rows[i].from->bytes));
  return QE_OK;
}

void qe_twin_sums_add(qe_twin_sums *sums, const qe_twin_sums *of) {
  sums->loss += of->loss;
  sums->guidance += of->guidance;
  sums->hints += of->hints;
  sums->hits += of->hits;
}

static void sum_twin(qe_session_twin *twin, int32_t count) {
  twin->sums = (qe_twin_sums){0};
  for (int32_t i = 0; i < count; i++) {
    twin->sums.guidance += (double)twin->host_guidance[i];
    if (twin->hints) twin->sums.hints += (double)twin->host_hints[i];
    if (twin->loss) twin->sums.loss += (double)twin->host_loss[i];
    if (twin->hits) twin->sums.hits += twin->host_hits[i];
  }
}

qe_status qe_session_start(qe_session *session, const int32_t *index, int32_t count, uint64_t seed, uint64_t position) {
  size_t row = (size_t)session->batch * sizeof(int32_t);
  for (int32_t i = 0; i < session->batch; i++) {
    int32_t image = index[i < count ? i : 0];
    session->host_index[i] = image;
    session->host_labels[i] = session->store->labels[image];
  }
  uint64_t words[2] = {seed, position};
  memcpy(session->host_counter, words, sizeof words);
  qe_queue *queue = session->queue;
  if (session->loader) QE_TRY(stage(session, index, count, seed, position));
  QE_TRY(qe_queue_write(queue, session->index, 0, session->host_index, row));
  QE_TRY(qe_queue_write(queue, session->labels, 0, session->host_labels, row));
  QE_TRY(qe_queue_write(queue, session->counter, 0, session->host_counter, sizeof session->host_counter));
  if (session->mix.on) QE_TRY(start_mix(session, seed, position));
  QE_TRY(qe_program_run(session->lowered.program, queue));
  if (session->twin.on) QE_TRY(read_twin(session));
  QE_TRY(qe_queue_read(queue, session->loss, 0, session->host_loss, row));
  return qe_queue_read(queue, session->hits, 0, session->host_hits, row);
}

qe_status qe_session_finish(qe_session *session, const int32_t *index, int32_t count, double *loss, int64_t *hits) {
  QE_TRY(qe_queue_wait(session->queue));
  for (int32_t i = 0; i < count; i++) {
    *loss += (double)session->host_loss[i];
    *hits += session->host_hits[i];
  }
  if (session->twin.on) sum_twin(&session->twin, count);
  return session->answers ? take_answers(session, index, count) : QE_OK;
}

qe_status qe_session_run(qe_session *session, const int32_t *index, int32_t count, uint64_t seed, uint64_t position,
                         double *loss, int64_t *hits) {
  QE_TRY(qe_session_start(session, index, count, seed, position));
  return qe_session_finish(session, index, count, loss, hits);
}

qe_status qe_session_score(qe_session *session, const int32_t *index, int32_t count, qe_score *score) {
  int32_t *all = index ? NULL : QE_NEW_ARRAY(int32_t, count);
  if (!index && !all) return QE_NO_MEMORY;
  for (int32_t i = 0; all && i < count; i++) all[i] = i;
  const int32_t *from = index ? index : all;
  double loss = 0;
  int64_t hits = 0;
  qe_status status = qe_session_expect(session, from, count, 0, 0);
  for (int32_t start = 0; status == QE_OK && start < count; start += session->batch) {
    int32_t left = count - start < session->batch ? count - start : session->batch;
    status = qe_session_run(session, from + start, left, 0, (uint64_t)start, &loss, &hits);
  }
  qe_free(all);
  if (status == QE_OK) *score = (qe_score){loss / (double)count, 100.0 * (double)hits / (double)count, count};
  return status;
}
