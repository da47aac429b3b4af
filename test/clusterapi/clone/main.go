// Command clone makes a machine of a template as Cluster API's vSphere provider
// does: with the provider's own code.
//
// What comes in is a VSphereVM's fields, as flags, and the password in
// GOVC_PASSWORD; what goes out is the task that clones, and whether the provider
// took it for a linked clone: "task-12 linkedClone snapshot-3".
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	"sigs.k8s.io/cluster-api/util/deprecated/v1beta1/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	infrav1 "sigs.k8s.io/cluster-api-provider-vsphere/apis/v1beta1"
	capvcontext "sigs.k8s.io/cluster-api-provider-vsphere/pkg/context"
	"sigs.k8s.io/cluster-api-provider-vsphere/pkg/services/govmomi/vcenter"
	"sigs.k8s.io/cluster-api-provider-vsphere/pkg/session"
)

func main() {
	vm := &infrav1.VSphereVM{ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: "564d9a4c-2f6b-4f3e-9d5b-6a1f4e6c7d80"}}
	spec := &vm.Spec
	network, user := "", ""
	flag.StringVar(&vm.Name, "name", "worker-0", "the machine's name")
	flag.StringVar(&spec.Server, "server", "", "vCenter")
	flag.StringVar(&spec.Thumbprint, "thumbprint", "", "of its certificate")
	flag.StringVar(&user, "user", "", "who logs in")
	flag.StringVar(&spec.Datacenter, "datacenter", "", "")
	flag.StringVar(&spec.ResourcePool, "resource-pool", "", "")
	flag.StringVar(&spec.Datastore, "datastore", "", "")
	flag.StringVar(&spec.Folder, "folder", "", "")
	flag.StringVar(&spec.Template, "template", "", "name, path or instance UUID")
	flag.StringVar(&network, "network", "VM Network", "")
	flag.Parse()
	spec.Network.Devices = []infrav1.NetworkDeviceSpec{{NetworkName: network, DHCP4: true}}
	if err := clone(vm, user, os.Getenv("GOVC_PASSWORD")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(vm.Status.TaskRef, vm.Status.CloneMode, vm.Status.Snapshot)
}

// clone begins to make the machine. The provider writes the VSphereVM's status
// to Kubernetes: to the client that its own tests have.
func clone(vm *infrav1.VSphereVM, user, password string) error {
	ctx := ctrl.LoggerInto(context.Background(), logr.Discard())
	scheme := runtime.NewScheme()
	if err := infrav1.AddToScheme(scheme); err != nil {
		return err
	}
	kube := fake.NewClientBuilder().WithScheme(scheme).WithObjects(vm).WithStatusSubresource(vm).Build()
	if err := kube.Get(ctx, client.ObjectKeyFromObject(vm), vm); err != nil {
		return err
	}
	helper, err := patch.NewHelper(vm, kube)
	if err != nil {
		return err
	}
	s, err := session.GetOrCreate(ctx, session.NewParams().WithServer(vm.Spec.Server).WithThumbprint(vm.Spec.Thumbprint).
		WithDatacenter(vm.Spec.Datacenter).WithUserInfo(user, password))
	if err != nil {
		return err
	}
	defer func() { _, _ = s.TagManager.Logout(ctx), s.Logout(ctx) }()
	return vcenter.Clone(ctx, &capvcontext.VMContext{VSphereVM: vm, PatchHelper: helper, Session: s}, []byte("#cloud-config\n"), bootstrapv1.CloudConfig)
}
