/* The table of the methods' own options. */
#include "tools/method_options.h"

#include "tools/gradfreebits_options.h"
#include "tools/progressive_options.h"
#include "tools/search_options.h"
#include "tools/sqwa_options.h"

#include <string.h>

static qe_status fill_sqwa(qe_options *options, const qe_dataset *data) {
  (void)data;
  return qe_sqwa_options_default(options);
}

static qe_status read_sqwa(const qe_options *options, qe_setting *setting) {
  setting->sqwa = qe_read_sqwa(options);
  return QE_OK;
}

static qe_status read_progressive(const qe_options *options, qe_setting *setting) {
  setting->progressive = qe_read_progressive(options);
  return QE_OK;
}

static qe_status read_search(const qe_options *options, qe_setting *setting) {
  return qe_read_search(options, &setting->search);
}

static qe_status read_gradfreebits(const qe_options *options, qe_setting *setting) {
  return qe_read_gradfreebits(options, &setting->gradfreebits);
}

typedef struct own_options {
  const char *method;
  qe_status (*fill)(qe_options *options, const qe_dataset *data); /* NULL: nothing */
  qe_status (*read)(const qe_options *options, qe_setting *setting);
} own_options;

static const own_options table[] = {{"progressive", NULL, read_progressive},
                                    {"sqwa", fill_sqwa, read_sqwa},
                                    {"gradfreebits", NULL, read_gradfreebits},
                                    {"coevolution", qe_search_defaults, read_search}};

static const own_options *find(const qe_method *method) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i].method, method->name) == 0) return &table[i];
  return NULL;
}

qe_status qe_method_options_fill(const qe_method *method, qe_options *options, const qe_dataset *data) {
  const own_options *own = find(method);
  return own && own->fill ? own->fill(options, data) : QE_OK;
}

qe_status qe_method_options_read(const qe_method *method, const qe_options *options, qe_setting *setting) {
  const own_options *own = find(method);
  return own ? own->read(options, setting) : QE_OK;
}
