/* --bits-file becomes the options that name bits, so that a run's config holds them whatever happens to the file. */
#include "tools/bits_option.h"

#include "core/base/alloc.h"
#include "core/models/allocation.h"

#include <stdio.h>

static bool was_given_before(const qe_options *options, const char *name) {
  return qe_option_source(options, name) < qe_option_source(options, "bits-file");
}

static qe_status set_bits(qe_options *options, const char *name, int bits, const char *origin) {
  char text[16];
  if (!was_given_before(options, name)) return QE_OK;
  snprintf(text, sizeof text, "%d", bits);
  return qe_option_set(options, name, text, qe_option_source(options, "bits-file"), origin, origin);
}

static qe_status set_all(qe_options *options, const qe_model_spec *spec, const char *origin) {
  qe_source source = qe_option_source(options, "bits-file");
  QE_TRY(set_bits(options, "weight-bits", spec->bits.weights, origin));
  QE_TRY(set_bits(options, "act-bits", spec->bits.activations, origin));
  QE_TRY(qe_option_set(options, "layer-bits", spec->bits.layers ? spec->bits.layers : "", source, origin, origin));
  return qe_option_set(options, "bits-file", "", source, origin, origin);
}

qe_status qe_take_bits_file(qe_options *options, const qe_model_spec *spec) {
  const char *path = qe_option_text(options, "bits-file");
  qe_model_spec read = *spec;
  char *layers = NULL, *origin = qe_format("bits file %s", path);
  if (!origin) return QE_NO_MEMORY;
  if (was_given_before(options, "layer-bits")) read.bits.layers = NULL;
  qe_status status = qe_bits_file_read(path, &read, &layers);
  if (status == QE_OK) status = set_all(options, &read, origin);
  qe_free(layers);
  qe_free(origin);
  return status;
}
