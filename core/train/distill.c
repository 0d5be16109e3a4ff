/* Distillation's options, and the second network as a model. */
#include "core/train/distill.h"

#include <math.h>
#include <string.h>

qe_distill_options qe_distill_defaults(void) {
  return (qe_distill_options){
#define QE_DISTILL_REAL(field, name, initial, least, most, help) .field = initial,
#include "core/train/distill_options.def"
#undef QE_DISTILL_REAL
  };
}

const char *qe_distill_name(qe_distill mode) {
  static const char *const names[] = {
#define X(id, name) name,
      QE_DISTILL_LIST(X)
#undef X
  };
  return mode < QE_DISTILLS ? names[mode] : NULL;
}

bool qe_distill_has_model(qe_distill mode) {
  return mode == QE_DISTILL_FROZEN || mode == QE_DISTILL_JOINT;
}

qe_status qe_distill_check(const qe_distill_options *options) {
  if (options->mode == QE_DISTILL_NONE) return QE_OK;
#define QE_DISTILL_REAL(field, name, initial, least, most, help)                                                       \
  if (!(options->field >= (least) && options->field <= (most)))                                                        \
    return qe_fail(QE_USAGE, "distill-%s %g: must be in %g...%g", name, options->field, (double)(least),               \
                   (double)(most));
#include "core/train/distill_options.def"
#undef QE_DISTILL_REAL
  return QE_OK;
}

static qe_status check_twin(const qe_model_spec *own, const qe_model_spec *other, const char *file) {
  if (own->height == other->height && own->width == other->width && own->channels == other->channels &&
      own->classes == other->classes)
    return QE_OK;
  return qe_fail(
      QE_SHAPE,
      "%s is a network for %dx%dx%d images of %d classes, the run is of %dx%dx%d and %d: choose another teacher", file,
      other->height, other->width, other->channels, other->classes, own->height, own->width, own->channels,
      own->classes);
}

qe_status qe_distill_check_teacher(const qe_distill_options *options, const qe_model_spec *spec) {
  qe_tensors *tensors;
  qe_model_spec other;
  if (!qe_distill_has_model(options->mode) || !options->teacher) return QE_OK;
  qe_status status = qe_tensors_read(options->teacher, &tensors);
  if (status == QE_OK) status = qe_model_read_spec(tensors, options->teacher, &other);
  if (status == QE_OK) status = check_twin(spec, &other, options->teacher);
  qe_tensors_free(tensors); /* which `other` may point into */
  return status == QE_OK ? QE_OK : qe_fail_within(status, "teacher");
}

qe_status qe_twin_new(const qe_model *model, const qe_distill_options *options, qe_model **twin) {
  static const qe_bits floats = {
      .weights = QE_FLOAT_BITS, .activations = QE_FLOAT_BITS, .edges = QE_FLOAT_BITS, .residual = QE_FLOAT_BITS};
  if (!options->teacher) return qe_model_requantize(model, &floats, twin);
  QE_TRY(qe_model_read(options->teacher, twin, NULL));
  qe_status status = check_twin(&model->spec, &(*twin)->spec, options->teacher);
  if (status == QE_OK) return QE_OK;
  qe_model_free(*twin);
  *twin = NULL;
  return status;
}
