// Package provisioner makes `local` PersistentVolumes: directories of a node, with fsGroup honoured.
package provisioner

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name is what a StorageClass calls this provisioner by.
const Name = "katonic.io/local"

// directories makes volumes at <root>/<node>/<namespace>-<claim>-<volume>.
type directories struct{ root string }

func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*core.PersistentVolume, controller.ProvisioningState, error) {
	if o.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("storage class %s must have volumeBindingMode WaitForFirstConsumer", o.StorageClass.Name)
	}
	path := filepath.Join(d.root, o.SelectedNodeName, strings.Join([]string{o.PVC.Namespace, o.PVC.Name, o.PVName}, "-"))
	// 0755 and root's, as a new filesystem is: a workload that is not root needs its pod's fsGroup.
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: o.PVName},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: o.PVC.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{o.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (d directories) Delete(_ context.Context, volume *core.PersistentVolume) error {
	path := volume.Spec.Local.Path
	if inside, err := filepath.Rel(d.root, path); err != nil || !filepath.IsLocal(inside) || filepath.Dir(inside) == "." {
		return fmt.Errorf("volume %s: %s is not a directory made under %s", volume.Name, path, d.root)
	}
	return os.RemoveAll(path)
}

// Main serves claims until SIGTERM; flags: -kubeconfig FILE -root DIRECTORY.
func Main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "directory that holds the volumes, one directory for each node")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		klog.ErrorS(err, "Failed to read the kubeconfig")
		os.Exit(1)
	}
	controller.NewProvisionController(ctx, kubernetes.NewForConfigOrDie(config), Name, directories{*root},
		controller.LeaderElection(false)).Run(ctx)
}
