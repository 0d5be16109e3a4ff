/* Options of the method gradfreebits. */
#include "tools/gradfreebits_options.h"

#include "core/base/nearest.h"

#include <stdio.h>

static qe_status read_searcher(const qe_options *options, qe_searcher_kind *kind) {
  const char *name = qe_option_text(options, "gfb-searcher");
  char list[256], hint[QE_NEAREST_TEXT];
  size_t used = 0;
  qe_nearest nearest = {.word = name};
  *kind = qe_searcher_find(name);
  if (*kind != QE_SEARCHERS) return QE_OK;
  for (int i = 0; i < QE_SEARCHERS && used < sizeof list; i++) {
    const char *known = qe_searcher_name((qe_searcher_kind)i);
    used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", known);
    qe_nearest_offer(&nearest, known);
  }
  return qe_fail(QE_USAGE, "--gfb-searcher: no searcher is called '%.100s'; there are %s%s", name, list,
                 qe_nearest_hint(&nearest, "", hint));
}

qe_status qe_read_gradfreebits(const qe_options *options, qe_gradfreebits_options *to) {
  *to = (qe_gradfreebits_options){
#define QE_GFB_INT(field, name, initial, least, most, help) .field = (int32_t)qe_option_int(options, "gfb-" name),
#define QE_GFB_REAL(field, name, initial, least, most, help) .field = qe_option_real(options, "gfb-" name),
#define QE_GFB_FLAG(field, name, initial, help) .field = qe_option_flag(options, "gfb-" name),
#include "core/methods/gradfreebits_options.def"
#undef QE_GFB_INT
#undef QE_GFB_REAL
#undef QE_GFB_FLAG
      .budgets = qe_option_text(options, "gfb-budgets"),
      .latency = qe_option_text(options, "gfb-latency"),
      .energy = qe_option_text(options, "gfb-energy")};
  return read_searcher(options, &to->searcher);
}
