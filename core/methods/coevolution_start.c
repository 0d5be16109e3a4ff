/* Where a coevolution starts, and its teacher: integer networks of models. The only part of the method that computes
 * with floats. */
#include "core/dispatch/network_file.h"
#include "core/graph/integer.h"
#include "core/methods/coevolution.h"

#include <string.h>

enum { TEACHER_BITS = 8 };

/* Fits steps that the model lacks on the reference backend, and lowers it. */
static qe_status lower(const qe_setting *setting, qe_model *model, qe_network **network) {
  qe_registry *registry = NULL;
  qe_device *device = NULL;
  qe_open_options options = {.threads = 1};
  qe_status status = qe_registry_open(&registry);
  if (status == QE_OK) status = qe_device_open(registry, "ref", 0, &options, &device);
  if (status == QE_OK) status = qe_fit_steps(device, model, setting->data, setting->options.seed);
  if (status == QE_OK) status = qe_network_from_graph(model->graph, model->values, network);
  qe_device_close(device);
  qe_registry_close(registry);
  return status;
}

/* A float model's parameters at other bits. */
static qe_status quantize(const qe_setting *setting, const qe_model_spec *spec, const char *file,
                          qe_network **network) {
  qe_model *model;
  qe_setting own = *setting;
  own.init = file;
  QE_TRY(qe_model_new(spec, setting->options.seed, &model));
  qe_status status = file ? qe_method_take_init(&own, model) : QE_OK;
  if (status == QE_OK) status = lower(setting, model, network);
  qe_model_free(model);
  return status;
}

/* A quantised model as it is. */
static qe_status take_quantized(const qe_setting *setting, const char *file, qe_network **network) {
  qe_model *model;
  QE_TRY(qe_model_read(file, &model, NULL));
  qe_status status = lower(setting, model, network);
  qe_model_free(model);
  return status;
}

/* The integer network of a file; `spec`: of what a float model becomes, name NULL: the file's with these bits. */
static qe_status load(const qe_setting *setting, const char *file, const qe_model_spec *spec, qe_network **network) {
  qe_tensors *tensors;
  qe_model_spec own, wanted = *spec;
  *network = NULL;
  QE_TRY(qe_tensors_read(file, &tensors));
  qe_status status = QE_OK;
  if (qe_network_is_file(tensors)) {
    status = qe_network_take(tensors, file, network);
  } else {
    status = qe_model_read_spec(tensors, file, &own);
    if (status == QE_OK && !spec->name) {
      wanted = own;
      wanted.bits = spec->bits;
    }
    if (status == QE_OK)
      status = qe_method_quantizes(&own.bits) ? take_quantized(setting, file, network)
                                              : quantize(setting, &wanted, file, network);
  }
  bool low_bit = qe_network_is_file(tensors) || (status == QE_OK && qe_method_quantizes(&own.bits));
  qe_tensors_free(tensors); /* which `wanted` may point into */
  if (status == QE_OK && low_bit) qe_run_note(setting->run, "%s is low-bit already: its own bits are kept", file);
  if (status == QE_OK) status = qe_network_fits(*network, setting->data);
  if (status == QE_OK) return QE_OK;
  qe_network_free(*network);
  *network = NULL;
  return status;
}

qe_status qe_coevolution_start(const qe_setting *setting, qe_network **start) {
  if (!qe_method_quantizes(&setting->spec.bits) && !setting->init)
    return qe_fail(QE_USAGE, "coevolution searches low-bit weights: set --weight-bits and --act-bits below 32");
  return setting->init ? load(setting, setting->init, &setting->spec, start)
                       : quantize(setting, &setting->spec, NULL, start);
}

/* Whether `file` is a float model, from which a teacher can be made. */
static qe_status is_float_model(const char *file, bool *is) {
  qe_tensors *tensors;
  qe_model_spec spec;
  QE_TRY(qe_tensors_read(file, &tensors));
  bool network = qe_network_is_file(tensors);
  qe_status status = network ? QE_OK : qe_model_read_spec(tensors, file, &spec);
  if (status == QE_OK) *is = !network && !qe_method_quantizes(&spec.bits);
  qe_tensors_free(tensors);
  return status;
}

qe_status qe_coevolution_teacher(const qe_setting *setting, qe_network **teacher) {
  const char *file = setting->search.teacher ? setting->search.teacher : setting->init;
  bool real = false;
  *teacher = NULL;
  if (!setting->search.teacher) {
    if (file) QE_TRY(is_float_model(file, &real));
    if (!real) return QE_OK;
  }
  qe_model_spec spec = {.bits = setting->spec.bits};
  spec.bits.weights = spec.bits.activations = spec.bits.edges = spec.bits.residual = TEACHER_BITS;
  spec.bits.layers = NULL;
  spec.bits.weight_rule = QE_RULE_LSQ; /* the grid with all 256 codes */
  qe_status status = load(setting, file, &spec, teacher);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "teacher %s", file);
}
