metadata name = 'Tidemark'
metadata description = 'Everything that Tidemark runs on in Azure, in one resource group. docs/infrastructure.md explains it.'

targetScope = 'resourceGroup'

import { principalType } from 'modules/roles.bicep'

@description('Required. Begin of all names: lower-case letters and digits.')
@minLength(3)
@maxLength(11)
param name string

@description('Optional. Region of everything, also of the disks that failovers make.')
param location string = resourceGroup().location

@description('Optional. Tags of all resources.')
param tags object = {}

@description('Optional. What runs the code.')
@allowed(['containerApps', 'functions'])
param hosting string = 'containerApps'

@description('Optional. Resource id of the container registry. Needed for Container Apps.')
param containerRegistryResourceId string = ''

@description('Optional. Repository and tag in that registry.')
param image string = 'tidemark:latest'

@description('Optional. Workers that always run in Container Apps.')
@minValue(1)
param minReplicas int = 1

@description('Optional. Workers at the most in Container Apps.')
@minValue(1)
param maxReplicas int = 5

@description('Optional. Orders in line for which one more worker is started. Each group has one a minute, and a worker does some hundreds of quiet groups in that time.')
param ordersPerWorker int = 100

@description('Optional. Release of Node for Functions.')
@allowed(['22', '24'])
param functionsNodeVersion string = '24'

@description('Optional. Redundancy of the cache account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param cacheSkuName string = 'Standard_LRS'

@description('Optional. Redundancy of the replica account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param replicaSkuName string = 'Standard_LRS'

@description('Optional. Resource group of the disks and machines that failovers make; it must be there, in the same subscription.')
param failoverResourceGroupName string = resourceGroup().name

@description('Optional. Whether failovers may make machines too, not only disks.')
param failoverMachines bool = false

@description('Optional. Who writes replication logs, such as the identity of a process server.')
param sourcePrincipals principalType[] = []

@description('Optional. Who uses the command line against this deployment.')
param operatorPrincipals principalType[] = []

@description('Optional. Name of the secret in the key vault with the log key; empty: logs are not sealed. Deploy once without it, put the key there, deploy again.')
param logKeySecretName string = ''

@description('Optional. Client id whose tokens the HTTP door takes; empty: there is no HTTP door.')
param apiAudience string = ''

@description('Optional. Where traces and metrics are sent by OTLP.')
param otlpEndpoint string = ''

@description('Optional. Connection string of Application Insights, which is no secret: the Functions host sends its own telemetry there.')
param applicationInsightsConnectionString string = ''

@description('Optional. Network for private endpoints, with a subnet for them and one for the environment or function app. Without it everything has public endpoints.')
param privateNetwork { virtualNetworkResourceId: string, endpointSubnetResourceId: string, appSubnetResourceId: string }?

@description('Optional. Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Required. Who gets the mails of alerts.')
param alertEmails string[]

var suffix = take(uniqueString(resourceGroup().id, name), 6)
var resourceName = '${name}-${suffix}'
var cloud = environment()
// Storage and Service Bus share their domain in each cloud: core.windows.net and servicebus.windows.net.
var serviceBusDomain = replace(cloud.suffixes.storage, 'core.', 'servicebus.')
var kedaClouds = {
  AzureCloud: 'AzurePublicCloud'
  AzureUSGovernment: 'AzureUSGovernmentCloud'
  AzureChinaCloud: 'AzureChinaCloud'
}
var publicNetworkAccess = privateNetwork == null ? 'Enabled' : 'Disabled'
var appSubnetResourceId = privateNetwork.?appSubnetResourceId ?? ''
var onFunctions = hosting == 'functions'

resource workerIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${resourceName}-worker'
  location: location
  tags: tags
}

resource failoverIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${resourceName}-failover'
  location: location
  tags: tags
}

resource eventsIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${resourceName}-events'
  location: location
  tags: tags
}

var worker = {
  principalId: workerIdentity.properties.principalId
  principalType: 'ServicePrincipal'
}
var failover = {
  principalId: failoverIdentity.properties.principalId
  principalType: 'ServicePrincipal'
}
var events = {
  principalId: eventsIdentity.properties.principalId
  principalType: 'ServicePrincipal'
}
var identities = {
  userAssignedResourceIds: [workerIdentity.id, failoverIdentity.id]
}
// The worker and whoever uses the command line do the same to the data.
var dataRoles = map(
  concat([worker], operatorPrincipals),
  principal => union(principal, { role: 'Storage Blob Data Contributor' })
)

module cache 'modules/storage-account.bicep' = {
  name: 'cache'
  params: {
    name: '${name}cache${suffix}'
    location: location
    tags: tags
    skuName: cacheSkuName
    publicNetworkAccess: publicNetworkAccess
    containers: [
      {
        name: 'replication-logs'
        roleAssignments: concat(
          dataRoles,
          map(sourcePrincipals, principal => union(principal, { role: 'Storage Blob Data Contributor' }))
        )
      }
    ]
  }
}

module replica 'modules/storage-account.bicep' = {
  name: 'replica'
  params: {
    name: '${name}replica${suffix}'
    location: location
    tags: tags
    skuName: replicaSkuName
    publicNetworkAccess: publicNetworkAccess
    containerRetentionDays: 7
    // Azure Compute names this account when it imports a disk.
    roleAssignments: [union(failover, { role: 'Reader' })]
    containers: [
      {
        name: 'seed-disks'
        roleAssignments: dataRoles
      }
      {
        name: 'catalog'
        roleAssignments: concat(
          dataRoles,
          map(sourcePrincipals, principal => union(principal, { role: 'Storage Blob Data Reader' }))
        )
      }
      {
        name: 'failover'
        roleAssignments: dataRoles
      }
      {
        name: 'point-disks'
        roleAssignments: dataRoles
      }
    ]
  }
}

// The state of the Functions host and the deployment package, apart from the data of protected machines.
module host 'modules/storage-account.bicep' = if (onFunctions) {
  name: 'host'
  params: {
    name: '${name}host${suffix}'
    location: location
    tags: tags
    publicNetworkAccess: publicNetworkAccess
    roleAssignments: [union(worker, { role: 'Storage Blob Data Owner' })]
    containers: [
      {
        name: 'deployments'
        roleAssignments: []
      }
    ]
  }
}

module serviceBus 'modules/service-bus.bicep' = {
  name: 'service-bus'
  params: {
    name: 'sb-${resourceName}'
    location: location
    tags: tags
    publicNetworkAccess: publicNetworkAccess
    roleAssignments: concat(
      [
        union(worker, { entity: 'commands', role: 'Azure Service Bus Data Receiver' })
        union(worker, { entity: 'commands', role: 'Azure Service Bus Data Sender' })
        union(worker, { entity: 'cache-events', role: 'Azure Service Bus Data Receiver' })
        union(worker, { entity: 'replies', role: 'Azure Service Bus Data Sender' })
        union(worker, { entity: 'monitoring', role: 'Azure Service Bus Data Sender' })
        union(events, { entity: 'cache-events', role: 'Azure Service Bus Data Sender' })
      ],
      map(operatorPrincipals, item => union(item, { entity: 'commands', role: 'Azure Service Bus Data Sender' })),
      map(operatorPrincipals, item => union(item, { entity: 'replies', role: 'Azure Service Bus Data Receiver' })),
      map(operatorPrincipals, item => union(item, { entity: 'monitoring', role: 'Azure Service Bus Data Sender' })),
      map(operatorPrincipals, item => union(item, { entity: 'monitoring', role: 'Azure Service Bus Data Receiver' }))
    )
  }
}

module cacheEvents 'modules/cache-events.bicep' = {
  name: 'cache-events'
  params: {
    name: 'evgt-${resourceName}'
    location: location
    tags: tags
    managedIdentities: { userAssignedResourceIds: [eventsIdentity.id] }
    storageAccountResourceId: cache.outputs.resourceId
    containerName: 'replication-logs'
    queueResourceId: '${serviceBus.outputs.resourceId}/queues/cache-events'
  }
}

module vault 'modules/key-vault.bicep' = {
  name: 'key-vault'
  params: {
    name: 'kv-${resourceName}'
    location: location
    tags: tags
    publicNetworkAccess: publicNetworkAccess
    roleAssignments: [union(worker, { role: 'Key Vault Secrets User' })]
  }
}

module failoverRoles 'modules/failover-roles.bicep' = {
  name: 'failover-roles'
  scope: resourceGroup(failoverResourceGroupName)
  params: {
    name: 'Tidemark ${resourceName}'
    principal: failover
    machines: failoverMachines
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-${resourceName}'
  location: location
  tags: tags
  properties: {
    features: {
      disableLocalAuth: true
    }
    retentionInDays: logRetentionDays
    sku: {
      name: 'PerGB2018'
    }
  }
}

module endpoints 'modules/private-endpoints.bicep' = if (privateNetwork != null) {
  name: 'private-endpoints'
  params: {
    location: location
    tags: tags
    virtualNetworkResourceId: privateNetwork.?virtualNetworkResourceId ?? ''
    subnetResourceId: privateNetwork.?endpointSubnetResourceId ?? ''
    endpoints: concat(
      map(
        concat([cache.outputs.resourceId, replica.outputs.resourceId], onFunctions ? [host!.outputs.resourceId] : []),
        id => {
          name: 'pep-${last(split(id, '/'))}'
          resourceId: id
          groupId: 'blob'
          zoneName: 'privatelink.blob.${cloud.suffixes.storage}'
        }
      ),
      [
        {
          name: 'pep-${serviceBus.outputs.name}'
          resourceId: serviceBus.outputs.resourceId
          groupId: 'namespace'
          zoneName: 'privatelink.${serviceBusDomain}'
        }
        {
          name: 'pep-${vault.outputs.name}'
          resourceId: vault.outputs.resourceId
          groupId: 'vault'
          zoneName: 'privatelink${replace(cloud.suffixes.keyvaultDns, '.vault.', '.vaultcore.')}'
        }
      ]
    )
  }
}

var addresses = {
  TIDEMARK_CLOUD: cloud.name
  TIDEMARK_CACHE_ACCOUNT_URL: cache.outputs.blobEndpoint
  TIDEMARK_REPLICA_ACCOUNT_URL: replica.outputs.blobEndpoint
  TIDEMARK_SERVICE_BUS_NAMESPACE: serviceBus.outputs.hostName
}
var settings = union(
  addresses,
  {
    TIDEMARK_SUBSCRIPTION_ID: subscription().subscriptionId
    TIDEMARK_RESOURCE_GROUP: failoverResourceGroupName
    TIDEMARK_LOCATION: location
    TIDEMARK_REPLICA_ACCOUNT_ID: replica.outputs.resourceId
    TIDEMARK_MANAGED_IDENTITY_CLIENT_ID: workerIdentity.properties.clientId
    TIDEMARK_COMPUTE_IDENTITY_CLIENT_ID: failoverIdentity.properties.clientId
  },
  empty(apiAudience)
    ? {}
    : {
        TIDEMARK_API_TENANT_ID: tenant().tenantId
        TIDEMARK_API_AUDIENCE: apiAudience
      },
  empty(otlpEndpoint) ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint },
  empty(applicationInsightsConnectionString) || !onFunctions
    ? {}
    : { APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnectionString }
)
var logKeySecretUri = empty(logKeySecretName) ? '' : '${vault.outputs.uri}secrets/${logKeySecretName}'
// Azure looks at the scope of a module that is left out, too, so it needs parts of an id even without a registry.
var registryParts = split(
  empty(containerRegistryResourceId)
    ? '${resourceGroup().id}/providers/Microsoft.ContainerRegistry/registries/none'
    : containerRegistryResourceId,
  '/'
)

module registryRole 'modules/registry-role.bicep' = if (!onFunctions) {
  name: 'registry-role'
  scope: resourceGroup(registryParts[2], registryParts[4])
  params: {
    name: last(registryParts)
    principal: worker
  }
}

module containerApps 'modules/container-apps.bicep' = if (!onFunctions) {
  name: 'container-apps'
  dependsOn: [registryRole, endpoints]
  params: {
    name: resourceName
    location: location
    tags: tags
    managedIdentities: identities
    image: '${last(registryParts)}${cloud.suffixes.acrLoginServer}/${image}'
    workspaceResourceId: workspace.id
    environmentVariables: settings
    logKeySecretUri: logKeySecretUri
    workerRoles: empty(apiAudience) ? 'worker,scheduler' : 'worker,scheduler,api'
    serviceBusNamespaceName: serviceBus.outputs.name
    kedaCloud: kedaClouds[cloud.name]
    minReplicas: minReplicas
    maxReplicas: maxReplicas
    ordersPerWorker: ordersPerWorker
    subnetResourceId: appSubnetResourceId
  }
}

module functionApp 'modules/function-app.bicep' = if (onFunctions) {
  name: 'function-app'
  dependsOn: [endpoints]
  params: {
    name: resourceName
    location: location
    tags: tags
    managedIdentities: identities
    clientId: workerIdentity.properties.clientId
    hostBlobEndpoint: host!.outputs.blobEndpoint
    deploymentContainerName: 'deployments'
    serviceBusHostName: serviceBus.outputs.hostName
    workspaceResourceId: workspace.id
    environmentVariables: settings
    logKeySecretUri: logKeySecretUri
    nodeVersion: functionsNodeVersion
    subnetResourceId: appSubnetResourceId
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    name: resourceName
    location: location
    tags: tags
    emails: alertEmails
    workspaceResourceId: workspace.id
    serviceBusResourceId: serviceBus.outputs.resourceId
    logTable: onFunctions ? 'FunctionAppLogs' : 'ContainerAppConsoleLogs'
  }
}

@description('Resource id of what runs the worker.')
output resourceId string = onFunctions ? functionApp!.outputs.resourceId : containerApps!.outputs.resourceId

@description('Name of what runs the worker.')
output name string = onFunctions ? functionApp!.outputs.name : containerApps!.outputs.name

@description('Resource group of the deployment.')
output resourceGroupName string = resourceGroup().name

@description('Region of the deployment.')
output location string = location

@description('Settings for the command line of an operator, without identities.')
output settings object = addresses

@description('Name of the key vault, for the log key.')
output keyVaultName string = vault.outputs.name
