/* Options of distillation. */
#include "tools/distill_options.h"

static const char *mode_name(int at) {
  return qe_distill_name((qe_distill)at);
}

static const char *loss_name(int at) {
  return qe_guide_name((qe_guide)at);
}

static const char *hint_name(int at) {
  return qe_hint_form_name((qe_hint_form)at);
}

static qe_status read_name(const qe_options *options, const char *option, const char *(*name)(int at), int *value) {
  for (*value = 0; name(*value); (*value)++)
    if (qe_option_is(options, option, name(*value))) return QE_OK;
  return qe_fail(QE_USAGE, "--%s %s: not known", option, qe_option_text(options, option));
}

static const char *text_of(const qe_options *options, const char *name) {
  const char *text = qe_option_text(options, name);
  return text && *text ? text : NULL;
}

qe_status qe_read_distill(const qe_options *options, qe_distill_options *distill) {
  int mode, loss, hint;
  QE_TRY(read_name(options, "distill", mode_name, &mode));
  QE_TRY(read_name(options, "distill-loss", loss_name, &loss));
  QE_TRY(read_name(options, "distill-hint", hint_name, &hint));
  *distill = (qe_distill_options){
      .mode = (qe_distill)mode,
      .loss = (qe_guide)loss,
      .hint = (qe_hint_form)hint,
      .hint_at = text_of(options, "distill-hint-at"),
      .teacher = text_of(options, "teacher"),
#define QE_DISTILL_REAL(field, name, initial, least, most, help) .field = qe_option_real(options, "distill-" name),
#include "core/train/distill_options.def"
#undef QE_DISTILL_REAL
  };
  return QE_OK;
}
