/* Evaluation of models on the test images. */
#include "core/train/session.h"
#include "core/train/trainer_parts.h"

qe_status qe_evaluate_answers(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                              FILE *explain, qe_answer *answers, qe_score *score) {
  qe_queue *queue = NULL;
  qe_buffer *params = NULL;
  qe_image_store store = {0};
  qe_session session = {0};
  size_t bytes = qe_graph_param_bytes(model->graph);
  qe_lower_options lower = {.batch = batch > 0 ? batch : 200};
  qe_status status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &params);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, model->values, bytes);
  if (status == QE_OK) status = qe_image_store_new(queue, data, true, &store);
  if (status == QE_OK) status = qe_session_new(queue, model->graph, &lower, params, NULL, &store, &session);
  session.answers = answers;
  if (status == QE_OK && explain) qe_program_explain(session.lowered.program, explain);
  if (status == QE_OK) status = qe_session_score(&session, NULL, data->test_images, score);
  qe_queue_free(queue); /* waits */
  qe_session_free(&session);
  qe_image_store_free(&store);
  qe_buffer_free(params);
  return status;
}

qe_status qe_evaluate(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch, FILE *explain,
                      qe_score *score) {
  return qe_evaluate_answers(device, model, data, batch, explain, NULL, score);
}
