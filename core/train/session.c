/* Sessions: a program, its batches in and its losses out. */
#include "core/train/session.h"

#include "core/base/alloc.h"

#include <math.h>
#include <string.h>

qe_status qe_image_store_new(qe_queue *queue, const qe_dataset *data, bool test, qe_image_store *store) {
  int32_t images = test ? data->test_images : data->train_images;
  size_t bytes = (size_t)images * (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  *store = (qe_image_store){.labels = test ? data->test_labels : data->train_labels, .images = images};
  QE_TRY(qe_buffer_new(queue->device, bytes, &store->pixels));
  QE_TRY(qe_queue_write(queue, store->pixels, 0, test ? data->test_pixels : data->train_pixels, bytes));
  return qe_queue_wait(queue);
}

void qe_image_store_free(qe_image_store *store) {
  qe_buffer_free(store->pixels);
  memset(store, 0, sizeof *store);
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
  options.images = session->store->images;
  qe_lower_buffers buffers = {.params = params,
                              .gradients = gradients,
                              .images = session->store->pixels,
                              .index = session->index,
                              .counter = session->counter,
                              .labels = session->labels,
                              .loss = session->loss,
                              .hits = session->hits};
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
  qe_buffer_free(session->index);
  qe_buffer_free(session->labels);
  qe_buffer_free(session->loss);
  qe_buffer_free(session->hits);
  qe_buffer_free(session->counter);
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
  QE_TRY(qe_queue_write(queue, session->index, 0, session->host_index, row));
  QE_TRY(qe_queue_write(queue, session->labels, 0, session->host_labels, row));
  QE_TRY(qe_queue_write(queue, session->counter, 0, session->host_counter, sizeof session->host_counter));
  QE_TRY(qe_program_run(session->lowered.program, queue));
  QE_TRY(qe_queue_read(queue, session->loss, 0, session->host_loss, row));
  return qe_queue_read(queue, session->hits, 0, session->host_hits, row);
}

qe_status qe_session_finish(qe_session *session, const int32_t *index, int32_t count, double *loss, int64_t *hits) {
  QE_TRY(qe_queue_wait(session->queue));
  for (int32_t i = 0; i < count; i++) {
    *loss += (double)session->host_loss[i];
    *hits += session->host_hits[i];
  }
  return session->answers ? take_answers(session, index, count) : QE_OK;
}

qe_status qe_session_run(qe_session *session, const int32_t *index, int32_t count, uint64_t seed, uint64_t position,
                         double *loss, int64_t *hits) {
  QE_TRY(qe_session_start(session, index, count, seed, position));
  return qe_session_finish(session, index, count, loss, hits);
}

qe_status qe_session_score(qe_session *session, const int32_t *index, int32_t count, qe_score *score) {
  int32_t *row = QE_NEW_ARRAY(int32_t, session->batch);
  if (!row) return QE_NO_MEMORY;
  double loss = 0;
  int64_t hits = 0;
  qe_status status = QE_OK;
  for (int32_t start = 0; status == QE_OK && start < count; start += session->batch) {
    int32_t left = count - start < session->batch ? count - start : session->batch;
    for (int32_t i = 0; i < left; i++) row[i] = index ? index[start + i] : start + i;
    status = qe_session_run(session, row, left, 0, 0, &loss, &hits);
  }
  qe_free(row);
  if (status == QE_OK) *score = (qe_score){loss / (double)count, 100.0 * (double)hits / (double)count, count};
  return status;
}
