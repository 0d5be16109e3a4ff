/* What one training hands on to the next. */
#include "core/methods/chain.h"

#include "core/graph/integer.h"

qe_handed qe_method_hands_on(const qe_method *method, const qe_setting *setting, const qe_handed *from) {
  if (!method->searches) return (qe_handed){.spec = setting->spec};
  bool low_bit = from && (from->network || qe_method_quantizes(&from->spec.bits));
  return (qe_handed){.network = true, .spec = low_bit ? from->spec : setting->spec};
}

/* A model as if it had been trained: with steps. */
static qe_status new_model(const qe_model_spec *spec, qe_model **model) {
  QE_TRY(qe_model_new(spec, 1, model));
  for (size_t i = 0; i < (*model)->graph->params; i++) (*model)->graph->param[i].initialised = true;
  return QE_OK;
}

static qe_status new_tensors(const qe_model_spec *spec, qe_tensors **tensors) {
  qe_model *model;
  QE_TRY(new_model(spec, &model));
  *tensors = qe_tensors_new();
  qe_status status = *tensors ? qe_model_give(model, *tensors) : QE_NO_MEMORY;
  qe_model_free(model);
  if (status == QE_OK) return QE_OK;
  qe_tensors_free(*tensors);
  return status;
}

/* Whether a model of the setting takes the parameters. */
static qe_status check_model(const qe_setting *setting, const qe_handed *from, const char *label) {
  qe_model *model;
  qe_tensors *tensors;
  QE_TRY(new_tensors(&from->spec, &tensors));
  qe_status status = qe_model_new(&setting->spec, 1, &model);
  if (status == QE_OK) {
    status = qe_method_take_tensors(model, tensors, label);
    qe_model_free(model);
  }
  qe_tensors_free(tensors);
  return status;
}

/* Whether it can be made of integers: low-bit already, or by the bits of the setting. */
static qe_status check_integer(const qe_setting *setting, const qe_handed *from, const char *label) {
  qe_model *model;
  qe_network *network = NULL;
  bool low_bit = qe_method_quantizes(&from->spec.bits);
  if (!low_bit) QE_TRY(check_model(setting, from, label));
  QE_TRY(new_model(low_bit ? &from->spec : &setting->spec, &model));
  qe_status status = qe_network_from_graph(model->graph, model->values, &network);
  qe_network_free(network);
  qe_model_free(model);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "%s", label);
}

static qe_status check_images(const qe_model_spec *has, const qe_model_spec *wants, const char *label) {
  if (has->height == wants->height && has->width == wants->width && has->channels == wants->channels &&
      has->classes == wants->classes)
    return QE_OK;
  return qe_fail(QE_USAGE, "%s is of %dx%dx%d images in %d classes, the data here are %dx%dx%d in %d: change --data",
                 label, has->height, has->width, has->channels, has->classes, wants->height, wants->width,
                 wants->channels, wants->classes);
}

qe_status qe_method_check_start(const qe_method *method, const qe_setting *setting, const qe_handed *from,
                                const char *label) {
  if (from->network && !method->searches)
    return qe_fail(QE_USAGE,
                   "the method %s cannot start from %s, which leaves an integer network: that has codes, but none of "
                   "the float weights that gradients change. Let the search come last, or start from a step before it "
                   "by 'init: step:NAME'",
                   method->name, label);
  QE_TRY(check_images(&from->spec, &setting->spec, label));
  if (!method->searches) return check_model(setting, from, label);
  return from->network ? QE_OK : check_integer(setting, from, label);
}

qe_status qe_handed_write(const qe_handed *handed, const char *path) {
  qe_tensors *tensors;
  QE_TRY(new_tensors(&handed->spec, &tensors));
  qe_status status = qe_tensors_write(tensors, path);
  qe_tensors_free(tensors);
  return status;
}
