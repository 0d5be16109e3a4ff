/* The file with the bits of each layer: text, a line a layer. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/nearest.h"
#include "core/models/allocation.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 20 }; /* bytes */

typedef struct text {
  char *at;
  size_t used, capacity;
} text;

static qe_status append(text *t, const char *format, ...) QE_PRINTF(2, 3);
static qe_status append(text *t, const char *format, ...) {
  char line[256];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (length < 0 || (size_t)length >= sizeof line) return qe_fail(QE_USAGE, "a line of bits is over 255 characters");
  QE_TRY(qe_reserve(&t->at, &t->capacity, t->used + (size_t)length + 1, 1));
  memcpy(t->at + t->used, line, (size_t)length + 1);
  t->used += (size_t)length;
  return QE_OK;
}

/* ---- writing ---- */

static qe_status append_comment(text *t, const char *comment) {
  while (comment && *comment) {
    int length = (int)strcspn(comment, "\n");
    QE_TRY(append(t, "# %.*s\n", length < 200 ? length : 200, comment));
    comment += length + (comment[length] == '\n');
  }
  return QE_OK;
}

static qe_status append_layer(text *t, const qe_bit_map *map, const qe_bit_layer *layer, const int32_t *bits) {
  const qe_bit_place *weight = &map->place[layer->weight], *code = &map->place[layer->input];
  bool decides = code->open && strcmp(code->layer, layer->name) == 0;
  if (!weight->open && !decides) return QE_OK;
  QE_TRY(append(t, "%-28s", layer->name));
  if (weight->open) QE_TRY(append(t, " w%d", bits[layer->weight]));
  if (decides) QE_TRY(append(t, " a%d", bits[layer->input]));
  return append(t, "\n");
}

static qe_status append_all(text *t, const qe_bit_map *map, const qe_model_spec *spec, const int32_t *bits,
                            const char *comment) {
  QE_TRY(append(t, "# Bits of the layers of %s: w of weights, a of the code that the layer reads.\n", spec->name));
  QE_TRY(append_comment(t, comment));
  QE_TRY(append(t, "%-28s w%d a%d\n", "others", spec->bits.weights, spec->bits.activations));
  for (int32_t i = 0; i < map->layers; i++) QE_TRY(append_layer(t, map, &map->layer[i], bits));
  return QE_OK;
}

qe_status qe_bits_file_write(const char *path, const qe_bit_map *map, const qe_model_spec *spec, const int32_t *bits,
                             const char *comment) {
  text t = {0};
  qe_status status = append_all(&t, map, spec, bits, comment);
  if (status == QE_OK) status = qe_file_write(path, t.at, t.used);
  qe_free(t.at);
  return status;
}

/* ---- reading ---- */

typedef struct reader {
  const char *path;
  int line;
  const qe_graph *graph; /* of the network without exceptions */
  qe_model_spec *spec;
  char *seen;  /* [nodes]: line of the node was read */
  bool others; /* such a line was read */
  text list;   /* for qe_bits.layers */
} reader;

/* "w3", "a4" or "w3a4" into bits[0] and bits[1]. */
static qe_status read_word(const reader *r, const char *layer, const char *word, long bits[2]) {
  for (const char *at = word; *at;) {
    char *end = NULL;
    int which = *at == 'a';
    bool known = *at == 'w' || *at == 'a';
    long value = known && at[1] >= '0' && at[1] <= '9' ? strtol(at + 1, &end, 10) : 0;
    if (!((value >= 1 && value <= 8) || value == QE_FLOAT_BITS))
      return qe_fail(QE_FORMAT, "%s:%d: %.64s: '%.32s': write w3, a4 or both, bits 1 to 8 or 32", r->path, r->line,
                     layer, word);
    if (bits[which])
      return qe_fail(QE_FORMAT, "%s:%d: %.64s has two numbers of bits for its %s", r->path, r->line, layer,
                     which ? "input" : "weights");
    bits[which] = value;
    at = end;
  }
  return QE_OK;
}

static qe_status take_others(reader *r, const long bits[2]) {
  if (r->others) return qe_fail(QE_FORMAT, "%s:%d: a second line for 'others'", r->path, r->line);
  r->others = true;
  if (bits[0]) r->spec->bits.weights = (int)bits[0];
  if (bits[1]) r->spec->bits.activations = (int)bits[1];
  return QE_OK;
}

static qe_status find_layer(reader *r, const char *name) {
  qe_node node = qe_graph_find_node(r->graph, name);
  if (node >= 0 && qe_node_is_weighted(&r->graph->node[node])) {
    if (r->seen[node]++) return qe_fail(QE_FORMAT, "%s:%d: a second line for %s", r->path, r->line, name);
    return QE_OK;
  }
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (size_t i = 0; i < r->graph->nodes; i++)
    if (qe_node_is_weighted(&r->graph->node[i])) qe_nearest_offer(&nearest, r->graph->node[i].name);
  return qe_fail(QE_USAGE, "%s:%d: %s has no conv or linear layer called '%.64s'; --dump FILE lists them%s", r->path,
                 r->line, r->spec->name, name, qe_nearest_hint(&nearest, "", hint));
}

static qe_status take_layer(reader *r, const char *name, const long bits[2]) {
  char w[16] = "", a[16] = "";
  QE_TRY(find_layer(r, name));
  if (bits[0]) snprintf(w, sizeof w, "w%ld", bits[0]);
  if (bits[1]) snprintf(a, sizeof a, "a%ld", bits[1]);
  return append(&r->list, "%s%s=%s%s", r->list.used ? "," : "", name, w, a);
}

/* One line, which is cut into words. */
static qe_status read_line(reader *r, char *line) {
  static const char blanks[] = " \t\r";
  line[strcspn(line, "#")] = 0;
  char *rest = NULL, *name = strtok_r(line, blanks, &rest);
  long bits[2] = {0, 0};
  if (!name) return QE_OK;
  for (char *word; (word = strtok_r(NULL, blanks, &rest));) QE_TRY(read_word(r, name, word, bits));
  if (!bits[0] && !bits[1])
    return qe_fail(QE_FORMAT, "%s:%d: '%.64s': write LAYER w3 a4 (or w3, or a4)", r->path, r->line, name);
  return strcmp(name, "others") == 0 ? take_others(r, bits) : take_layer(r, name, bits);
}

static qe_status read_lines(reader *r, char *bytes, size_t count) {
  if (strlen(bytes) != count) return qe_fail(QE_FORMAT, "%s: holds a 0 byte; it is no text", r->path);
  const char *before = r->spec->bits.layers;
  if (before && *before) QE_TRY(append(&r->list, "%s", before));
  size_t used = r->list.used;
  for (char *line = bytes; line;) {
    char *end = strchr(line, '\n');
    if (end) *end++ = 0;
    r->line++;
    QE_TRY(read_line(r, line));
    line = end;
  }
  if (r->list.used > used || r->others) return QE_OK;
  return qe_fail(QE_FORMAT, "%s: it has bits of no layer; write lines such as 'fc w3 a4'", r->path);
}

/* What only the whole network tells: codes whose bits another layer decides, for one. */
static qe_status check_whole(const reader *r) {
  qe_model_spec spec = *r->spec;
  qe_graph *graph = NULL;
  spec.bits.layers = r->list.at;
  qe_status status = qe_model_build(&spec, &graph);
  qe_graph_free(graph);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "%s", r->path);
}

static qe_status build_plain(const qe_model_spec *spec, qe_graph **graph) {
  qe_model_spec plain = *spec;
  plain.bits.layers = NULL;
  return qe_model_build(&plain, graph);
}

qe_status qe_bits_file_read(const char *path, qe_model_spec *spec, char **layers) {
  char *bytes = NULL;
  size_t count = 0;
  qe_graph *graph = NULL;
  qe_model_spec read = *spec;
  reader r = {.path = path, .spec = &read};
  if (spec->net)
    return qe_fail(QE_USAGE, "%s: %s says the bits of its layers itself: write bits= there", path, spec->name);
  qe_status status = qe_file_read(path, FILE_LIMIT, &bytes, &count);
  if (status == QE_OK) status = build_plain(spec, &graph);
  if (status == QE_OK) {
    r.graph = graph;
    r.seen = qe_calloc(graph->nodes, 1);
    status = r.seen ? read_lines(&r, bytes, count) : QE_NO_MEMORY;
  }
  if (status == QE_OK) status = check_whole(&r);
  if (status == QE_OK) {
    *spec = read;
    spec->bits.layers = *layers = r.list.at;
    r.list.at = NULL;
  }
  qe_free(r.list.at);
  qe_free(r.seen);
  qe_free(bytes);
  qe_graph_free(graph);
  return status;
}
