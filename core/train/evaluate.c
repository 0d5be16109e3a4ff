/* Evaluation of models on the test images, or on those held out. */
#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/train/session.h"
#include "core/train/trainer_parts.h"

typedef struct evaluation {
  int32_t batch; /* 0: chosen */
  bool plain, test;
  const int32_t *index; /* NULL: all images */
  int32_t count;
  FILE *explain;
  qe_answer *answers;
} evaluation;

static qe_status evaluate(qe_device *device, const qe_model *model, const qe_dataset *data, const evaluation *of,
                          qe_score *score) {
  qe_queue *queue = NULL;
  qe_buffer *params = NULL;
  qe_image_store store = {0};
  qe_session session = {0};
  size_t bytes = qe_graph_param_bytes(model->graph);
  int32_t batch = of->batch > 0 ? of->batch : 200;
  qe_lower_options lower = {.batch = batch < of->count ? batch : of->count, .plain = of->plain};
  qe_status status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &params);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, model->values, bytes);
  if (status == QE_OK) status = qe_image_store_new(queue, data, of->test, &store);
  if (status == QE_OK) status = qe_session_new(queue, model->graph, &lower, params, NULL, &store, &session);
  session.answers = of->answers;
  if (status == QE_OK && of->explain) qe_program_explain(session.lowered.program, of->explain);
  if (status == QE_OK) status = qe_session_score(&session, of->index, of->count, score);
  qe_queue_free(queue); /* waits */
  qe_session_free(&session);
  qe_image_store_free(&store);
  qe_buffer_free(params);
  return status;
}

qe_status qe_evaluate_answers(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                              FILE *explain, qe_answer *answers, qe_score *score) {
  evaluation of = {.batch = batch, .test = true, .count = data->test_images, .explain = explain, .answers = answers};
  return evaluate(device, model, data, &of, score);
}

qe_status qe_evaluate_plain(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                            qe_score *score) {
  evaluation of = {.batch = batch, .test = true, .plain = true, .count = data->test_images};
  return evaluate(device, model, data, &of, score);
}

qe_status qe_evaluate_held_out(qe_device *device, const qe_model *model, const qe_dataset *data,
                               const qe_train_options *options, qe_score *score) {
  int32_t count = options->held_out, kept_count = data->train_images - count;
  if (count < 1 || kept_count < 0)
    return qe_fail(QE_USAGE, "%d images held out of %d: set held-out to between 1 and that", count, data->train_images);
  int32_t *kept = QE_NEW_ARRAY(int32_t, kept_count + 1), *held = QE_NEW_ARRAY(int32_t, count);
  qe_status status = kept && held ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK)
    status = qe_split(options->seed, data->train_labels, data->train_images, data->classes, count, kept, held);
  evaluation of = {.batch = options->eval_batch, .index = held, .count = count};
  if (status == QE_OK) status = evaluate(device, model, data, &of, score);
  qe_free(kept);
  qe_free(held);
  return status;
}

qe_status qe_evaluate(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch, FILE *explain,
                      qe_score *score) {
  return qe_evaluate_answers(device, model, data, batch, explain, NULL, score);
}
