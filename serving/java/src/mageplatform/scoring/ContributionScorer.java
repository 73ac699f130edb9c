package mageplatform.scoring;

import biz.k11i.xgboost.Predictor;
import biz.k11i.xgboost.gbm.Dart;
import biz.k11i.xgboost.gbm.GBTree;
import biz.k11i.xgboost.tree.RegTree;
import biz.k11i.xgboost.tree.TreeSHAPHelper;
import biz.k11i.xgboost.util.FVec;
import hex.ModelCategory;
import hex.genmodel.GenModel;
import hex.genmodel.MojoModel;
import hex.genmodel.MojoReaderBackend;
import hex.genmodel.MojoReaderBackendFactory;
import hex.genmodel.algos.drf.DrfMojoModel;
import hex.genmodel.algos.gbm.GbmMojoModel;
import hex.genmodel.algos.tree.SharedTreeMojoModelWithContributions;
import hex.genmodel.algos.tree.SharedTreeNode;
import hex.genmodel.algos.tree.SharedTreeSubgraph;
import hex.genmodel.algos.tree.TreeSHAP;
import hex.genmodel.algos.tree.TreeSHAPPredictor;
import hex.genmodel.algos.xgboost.XGBoostJavaMojoModel;
import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * What each column contributed to the scores of a tree model, by TreeSHAP: one call for a whole batch.
 *
 * <p>Rows are float64 in the model's own column order, as {@link BatchScorer} takes them. Each answer is the
 * contribution of every column (one-hot parts added up), the bias, then the prediction as BatchScorer writes it; bias and
 * contributions sum to the score on the scale that {@link #scale()} names. genmodel walks each tree in float32; the
 * trees are added up here in float64, each with its weight, so that the sum holds for many trees and for DART too.
 * An instance is bound to its two buffers and may be used by one thread at a time.
 */
public final class ContributionScorer {
  private final MojoModel model;
  private final XGBoostJavaMojoModel oneHot;
  private final List<TreeSHAPPredictor<Object>> trees = new ArrayList<>();
  private final TreeSHAPPredictor.Workspace workspace;
  private final double[] weights;
  private final int[] columns;
  private final double bias;
  private int nodes;
  private final String scale;
  private final DoubleBuffer rows;
  private final DoubleBuffer answers;
  private final double[] row;
  private final double[] prediction;
  private final double[] sums;
  private final float[] ofOneTree;

  /**
   * Prepares the trees of a model.
   *
   * @param path its file, from which the boosters of XGBoost are read
   * @throws UnsupportedOperationException when its contributions cannot be told
   */
  public ContributionScorer(MojoModel model, String path, ByteBuffer rows, ByteBuffer answers) throws IOException {
    if (model._category != ModelCategory.Binomial && model._category != ModelCategory.Regression) {
      throw new UnsupportedOperationException("it predicts " + model._category + ", neither two classes nor a number");
    }
    this.model = model;
    if (model instanceof XGBoostJavaMojoModel) {
      oneHot = (XGBoostJavaMojoModel) model;
      Predictor predictor = readPredictor(path);
      if (!(predictor.getBooster() instanceof GBTree)) {
        throw new UnsupportedOperationException("it is an XGBoost model without trees");
      }
      GBTree booster = (GBTree) predictor.getBooster();
      weights = addTrees(booster);
      bias = predictor.getBaseScore();
      scale = scaleOf(predictor.getObjName());
      columns = columnsOf(oneHot);
    } else if (model instanceof SharedTreeMojoModelWithContributions) {
      oneHot = null;
      weights = addTrees((SharedTreeMojoModelWithContributions) model);
      bias = model instanceof DrfMojoModel && model._category == ModelCategory.Binomial ? 1.0
          : ((SharedTreeMojoModelWithContributions) model).getInitF();
      scale = model instanceof DrfMojoModel ? (model._category == ModelCategory.Binomial ? "probability" : "identity")
          : scaleOf(((GbmMojoModel) model)._link_function.name());
      columns = new int[model.nfeatures()];
      for (int i = 0; i < columns.length; i++) {
        columns[i] = i;
      }
    } else {
      throw new UnsupportedOperationException("it is no tree model");
    }
    workspace = largest(trees).makeWorkspace();
    this.rows = rows.order(ByteOrder.nativeOrder()).asDoubleBuffer();
    this.answers = answers.order(ByteOrder.nativeOrder()).asDoubleBuffer();
    row = new double[model.nfeatures()];
    prediction = new double[model.getPredsSize()];
    sums = new double[model.nfeatures() + 1];
    ofOneTree = new float[columns.length + 1];
  }

  /** Nodes of all its trees: what it costs in memory. */
  public int nodes() {
    return nodes;
  }

  /** The scale on which bias and contributions sum up: logit, log, identity or probability (of the second class). */
  public String scale() {
    return scale;
  }

  /**
   * Explains the first {@code count} rows of the buffer.
   *
   * @return how long that took, in nanoseconds
   */
  public long score(int count) {
    long started = System.nanoTime();
    rows.rewind();
    answers.rewind();
    for (int i = 0; i < count; i++) {
      rows.get(row);
      explain();
      answers.put(sums);
      model.score0(row, prediction);
      answers.put(prediction);
    }
    return System.nanoTime() - started;
  }

  private void explain() {
    Arrays.fill(sums, 0.0);
    int last = ofOneTree.length - 1;
    Object input = oneHot == null ? row : encoded();
    for (int tree = 0; tree < weights.length; tree++) {
      Arrays.fill(ofOneTree, 0f);
      trees.get(tree).calculateContributions(input, ofOneTree, 0, -1, workspace);
      for (int i = 0; i < last; i++) {
        sums[columns[i]] += weights[tree] * ofOneTree[i];
      }
      sums[sums.length - 1] += weights[tree] * ofOneTree[last];
    }
    sums[sums.length - 1] += bias;
  }

  /** The row as XGBoost's trees see it: each level of a category a feature of its own, then the numbers. */
  private FVec encoded() {
    int categories = oneHot._cats;
    int[] hot = new int[categories];
    if (categories > 0) {
      GenModel.setCats(row, hot, categories, oneHot._catOffsets, oneHot._useAllFactorLevels);
    }
    float absent = oneHot._sparse ? Float.NaN : 0f;
    int levels = columns.length - oneHot._nums;
    return index -> {
      if (index < levels) {
        return hot[columns[index]] == index ? 1f : absent;
      }
      float value = (float) row[columns[index]];
      return oneHot._sparse && value == 0f ? Float.NaN : value;
    };
  }

  private static TreeSHAPPredictor<Object> largest(List<TreeSHAPPredictor<Object>> trees) {
    TreeSHAPPredictor<Object> found = trees.get(0);
    for (TreeSHAPPredictor<Object> tree : trees) {
      if (tree.getWorkspaceSize() > found.getWorkspaceSize()) {
        found = tree;
      }
    }
    return found;
  }

  private static int[] columnsOf(XGBoostJavaMojoModel model) {
    int levels = model._cats == 0 ? 0 : model._catOffsets[model._cats];
    int[] columns = new int[levels + model._nums];
    for (int column = 0; column < model._cats; column++) {
      for (int level = model._catOffsets[column]; level < model._catOffsets[column + 1]; level++) {
        columns[level] = column;
      }
    }
    for (int number = 0; number < model._nums; number++) {
      columns[levels + number] = model._cats + number;
    }
    return columns;
  }

  @SuppressWarnings({"unchecked", "rawtypes"})
  private double[] addTrees(SharedTreeMojoModelWithContributions model) {
    if (model instanceof DrfMojoModel && ((DrfMojoModel) model).isBinomialDoubleTrees()) {
      throw new UnsupportedOperationException("it is a forest with trees for each of the two classes");
    }
    for (SharedTreeSubgraph tree : model.computeGraph(-1).subgraphArray) {
      SharedTreeNode[] grown = tree.getNodes();
      if (model instanceof DrfMojoModel) {
        weigh(grown, 0);
      }
      trees.add(new TreeSHAP(grown));
      nodes += grown.length;
    }
    double[] weights = new double[trees.size()];
    // A forest is the mean of its trees; of two classes they give the probability of the first.
    double weight = !(model instanceof DrfMojoModel) ? 1.0
        : (model._category == ModelCategory.Binomial ? -1.0 : 1.0) / weights.length;
    Arrays.fill(weights, weight);
    return weights;
  }

  /**
   * Gives every node as much weight as its leaves have. A forest's leaves count the rows its tree was grown on, but its
   * upper nodes all rows, so that what genmodel expects of a tree is far below its mean.
   */
  private static float weigh(SharedTreeNode[] nodes, int index) {
    SharedTreeNode node = nodes[index];
    if (!node.isLeaf()) {
      node.setWeight(weigh(nodes, node.getLeftChildIndex()) + weigh(nodes, node.getRightChildIndex()));
    }
    return node.getWeight();
  }

  @SuppressWarnings({"unchecked", "rawtypes"})
  private double[] addTrees(GBTree booster) {
    RegTree[] grown = booster.getGroupedTrees()[0];
    double[] weights = new double[grown.length];
    for (int tree = 0; tree < grown.length; tree++) {
      trees.add((TreeSHAPPredictor) TreeSHAPHelper.makePredictor(grown[tree]));
      nodes += grown[tree].getNodes().length;
      weights[tree] = booster instanceof Dart ? ((Dart) booster).weight(tree) : 1.0;
    }
    return weights;
  }

  private static Predictor readPredictor(String path) throws IOException {
    MojoReaderBackend file = MojoReaderBackendFactory.createReaderBackend(new File(path));
    try {
      byte[] weights = file.exists("auxNodeWeights") ? file.getBinaryFile("auxNodeWeights") : null;
      return XGBoostJavaMojoModel.makePredictor(file.getBinaryFile("boosterBytes"), weights);
    } finally {
      if (file instanceof Closeable) {
        ((Closeable) file).close();
      }
    }
  }

  private static String scaleOf(String name) {
    switch (name) {
      case "logit":
      case "binary:logistic":
        return "logit";
      case "log":
      case "count:poisson":
      case "reg:gamma":
      case "reg:tweedie":
        return "log";
      case "identity":
      case "reg:linear":
      case "reg:squarederror":
        return "identity";
      default:
        throw new UnsupportedOperationException("its scale " + name + " is not known");
    }
  }
}
