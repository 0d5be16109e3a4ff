/* Places of hints: found by the sizes of maps, or named. */
#include "core/graph/hints.h"

#include "core/graph/layers.h"

#include <stdio.h>
#include <string.h>

static bool is_activation(const qe_node_info *node) {
  return node->layer == &qe_layer_clamp || node->layer == &qe_layer_quant;
}

static bool same_size(const qe_node_info *a, const qe_node_info *b) {
  return a->output.dim[QE_H] == b->output.dim[QE_H] && a->output.dim[QE_W] == b->output.dim[QE_W];
}

/* A map's own non-linearity, not a coarser code of it. */
static bool ends_layer(const qe_graph *graph, const qe_node_info *node) {
  return is_activation(node) && !is_activation(&graph->node[node->input[0]]);
}

/* The last such node with maps of the size of `like`, or -1. */
static qe_node last_of_size(const qe_graph *graph, const qe_node_info *like) {
  qe_node found = -1;
  for (size_t i = 0; i < graph->nodes; i++)
    if (ends_layer(graph, &graph->node[i]) && same_size(&graph->node[i], like)) found = (qe_node)i;
  return found;
}

static qe_status add_hint(qe_node own, qe_node twin, qe_hint *hint, int *hints) {
  if (*hints == QE_MOST_HINTS) return qe_fail(QE_USAGE, "at most %d hints", QE_MOST_HINTS);
  hint[(*hints)++] = (qe_hint){{own, twin}};
  return QE_OK;
}

/* Of maps with `pixels` or more. */
static qe_status find_ends(const qe_graph *own, const qe_graph *twin, int64_t pixels, qe_hint *hint, int *hints) {
  for (size_t i = 0; i < own->nodes; i++) {
    const qe_node_info *node = &own->node[i];
    if (!ends_layer(own, node) || last_of_size(own, node) != (qe_node)i) continue;
    qe_node other = (int64_t)node->output.dim[QE_H] * node->output.dim[QE_W] < pixels ? -1 : last_of_size(twin, node);
    if (other >= 0) QE_TRY(add_hint((qe_node)i, other, hint, hints));
  }
  return QE_OK;
}

/* Vectors count in networks that have no maps. */
static qe_status find_stages(const qe_graph *own, const qe_graph *twin, qe_hint *hint, int *hints) {
  QE_TRY(find_ends(own, twin, 2, hint, hints));
  if (*hints == 0) QE_TRY(find_ends(own, twin, 1, hint, hints));
  if (*hints > 0) return QE_OK;
  return qe_fail(QE_USAGE, "the networks have no maps of the same size to take hints from; name nodes instead");
}

static qe_status find_node(const qe_graph *graph, const char *name, size_t length, qe_node *node) {
  char text[128];
  snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text - 1), name);
  *node = qe_graph_find_node(graph, text);
  return *node >= 0 ? QE_OK : qe_fail(QE_USAGE, "hint at '%s': no node of the network is called so", text);
}

static qe_status find_named(const qe_graph *own, const qe_graph *twin, const char *where, qe_hint *hint, int *hints) {
  for (;;) {
    size_t length = strcspn(where, ","), first = strcspn(where, ",=");
    const char *second = first < length ? where + first + 1 : where;
    qe_node node, other;
    QE_TRY(find_node(own, where, first, &node));
    QE_TRY(find_node(twin, second, first < length ? length - first - 1 : first, &other));
    QE_TRY(add_hint(node, other, hint, hints));
    if (!where[length]) return QE_OK;
    where += length + 1;
  }
}

/* The node whose codes are compared: the coarser code of a map where there is one. */
static qe_node coder_of(const qe_graph *graph, qe_node node) {
  for (size_t i = (size_t)node + 1; i < graph->nodes; i++)
    if (graph->node[i].layer == &qe_layer_quant && graph->node[i].input[0] == node) return (qe_node)i;
  return node;
}

static qe_status check_maps(const qe_graph *own, const qe_graph *twin, qe_hint_form form, const qe_hint *hint) {
  const qe_node_info *a = &own->node[hint->node[QE_NET_OWN]], *b = &twin->node[hint->node[QE_NET_TWIN]];
  char first[QE_DESC_TEXT], second[QE_DESC_TEXT];
  if (same_size(a, b) && (form == QE_HINT_ATTENTION || a->output.dim[QE_C] == b->output.dim[QE_C])) return QE_OK;
  return qe_fail(QE_SHAPE, "hint at %s=%s: the maps are %s and %s; %s", a->name, b->name,
                 qe_desc_text(&a->output, first), qe_desc_text(&b->output, second),
                 same_size(a, b) ? "attention compares other numbers of channels, too" : "their sizes must be equal");
}

qe_status qe_hints_find(const qe_graph *own, const qe_graph *twin, qe_hint_form form, const char *where, qe_hint *hint,
                        int *hints) {
  *hints = 0;
  if (form == QE_HINT_NONE) return QE_OK;
  bool last = where && strcmp(where, "last") == 0;
  if (!where || last || strcmp(where, "stages") == 0)
    QE_TRY(find_stages(own, twin, hint, hints));
  else
    QE_TRY(find_named(own, twin, where, hint, hints));
  if (last) hint[0] = hint[*hints - 1];
  if (last) *hints = 1;
  for (int i = 0; i < *hints; i++) {
    if (form == QE_HINT_CODES) hint[i].node[QE_NET_OWN] = coder_of(own, hint[i].node[QE_NET_OWN]);
    QE_TRY(check_maps(own, twin, form, &hint[i]));
  }
  return QE_OK;
}
