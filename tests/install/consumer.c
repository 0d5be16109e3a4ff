/* A program of somebody else's that uses the installed library: opens a device, runs one op on it, builds a network of
 * the zoo. Prints one line; exit code 0 when all is as it must be. */
#include "core/dispatch/dispatch.h"
#include "core/models/model.h"

#include <stdio.h>

enum { COUNT = 4 };

/* y = a + b on the device; QE_FORMAT when the sums are wrong. */
static qe_status add_on(qe_device *device, qe_queue *queue, qe_buffer *buffer) {
  const float values[2 * COUNT] = {1, 2, 3, 4, 10, 20, 30, 40};
  const size_t row = COUNT * sizeof(float);
  float sums[COUNT] = {0};
  qe_call call = {.op = qe_op_find("add"), .operands = 3};
  qe_bound_call bound;
  if (call.op == QE_OPS) return qe_fail(QE_NOT_FOUND, "there is no op add");
  for (int i = 0; i < 3; i++) qe_operand_set(&call.operand[i], qe_map(QE_F32, 1, 1, 1, COUNT), buffer, (size_t)i * row);
  QE_TRY(qe_queue_write(queue, buffer, 0, values, sizeof values));
  QE_TRY(qe_call_bind(device, &call, NULL, &bound));
  qe_status status = qe_call_run(queue, &call, &bound);
  if (status == QE_OK) status = qe_queue_read(queue, buffer, 2 * row, sums, sizeof sums);
  qe_status waited = qe_queue_wait(queue);
  qe_call_release(&bound);
  QE_TRY(status);
  QE_TRY(waited);
  for (int i = 0; i < COUNT; i++)
    if (sums[i] != values[i] + values[COUNT + i]) return qe_fail(QE_FORMAT, "sum %d is %g", i, (double)sums[i]);
  return QE_OK;
}

static qe_status use(qe_device *device) {
  qe_queue *queue = NULL;
  qe_buffer *buffer = NULL;
  qe_model *model = NULL;
  qe_model_spec spec = qe_model_default("resnet20");
  spec.height = spec.width = 32;
  spec.channels = 3;
  spec.classes = 10;
  qe_status status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_buffer_new(device, 3 * COUNT * sizeof(float), &buffer);
  if (status == QE_OK) status = add_on(device, queue, buffer);
  if (status == QE_OK) status = qe_model_new(&spec, 1, &model);
  if (status == QE_OK)
    printf("consumer: %s, %s with %zu parameter tensors\n", device->backend->name, model->spec.name,
           model->graph->params);
  qe_model_free(model);
  qe_buffer_free(buffer);
  qe_queue_free(queue);
  return status;
}

int main(int argc, char **argv) {
  qe_registry *registry = NULL;
  qe_device *device = NULL;
  qe_status status = qe_registry_open(&registry);
  if (status == QE_OK) status = qe_device_open(registry, argc > 1 ? argv[1] : "auto", 0, NULL, &device);
  if (status == QE_OK) status = use(device);
  if (status != QE_OK) fprintf(stderr, "consumer: %s: %s\n", qe_status_name(status), qe_message());
  qe_device_close(device);
  qe_registry_close(registry);
  return status == QE_OK ? 0 : 1;
}
